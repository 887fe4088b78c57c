mod tls;

use super::answer::Answer;
use super::signed::Ask;
use super::writer::PART_BYTES;
use crate::backend::testing::contract;
use crate::backend::testing::s3::{ACCESS_KEY, Asked, BUCKET, Fault, S3Server};
use crate::backend::{Address, Backend, BackendExt, Found, Need, ObjectKind, ObjectName, Request, StoreSettings, create, open, try_out};
use crate::error::{Error, ErrorKind};
use crate::runtime::{Runtime, Timestamp};
use object_store::signer::Method;
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Waits pass at once, on a clock that stands still otherwise.
fn settings(server: &S3Server) -> StoreSettings {
    let mut settings = StoreSettings::new(Runtime::seeded(1, Timestamp::default(), 2));
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    settings.options = vec![
        option("endpoint", &server.endpoint()),
        option("access_key_id", ACCESS_KEY),
        option("secret_access_key", "secret"),
        option("region", "here"),
    ];
    settings
}

fn backend(server: &S3Server, prefix: &str) -> Arc<dyn Backend> {
    open(&address(prefix), &settings(server)).unwrap()
}

fn address(prefix: &str) -> Address {
    Address::parse(OsStr::new(&format!("s3://{BUCKET}/{prefix}"))).unwrap()
}

fn bucket(prefix: &str, settings: &StoreSettings) -> super::ObjectStoreBackend {
    let Address::Bucket(address) = address(prefix) else { panic!("{prefix}") };
    super::ObjectStoreBackend::open(&address, settings).unwrap()
}

fn refused(server: &S3Server, act: impl FnOnce(&dyn Backend) -> crate::Result<()>) -> Error {
    let error = act(&*backend(server, "p")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    error
}

const NAME: fn() -> ObjectName = || ObjectName::config(1);
const LARGE: usize = 2 * PART_BYTES + 5;

fn pack() -> ObjectName {
    ObjectName::parse("packs/ab/abababababababababababababababab").unwrap()
}

/// Fails the first `count` requests that `is_meant` picks.
fn first(count: u32, fault: Fault, is_meant: impl Fn(&Asked) -> bool + Send + 'static) -> impl FnMut(&Asked) -> Option<Fault> + Send {
    let mut left = count;
    move |asked| {
        let fails = left > 0 && is_meant(asked);
        left -= u32::from(fails);
        fails.then_some(fault)
    }
}

#[test]
fn keeps_the_contract() {
    let server = S3Server::start();
    let next = AtomicU32::new(0);
    contract::check(|| {
        let settings = settings(&server);
        Box::new(bucket(&format!("some/prefix{}", next.fetch_add(1, Ordering::Relaxed)), &settings))
    });
    assert_eq!(server.uploads(), 0, "dropped writers leave no upload");
}

#[test]
fn strangers_are_reported() {
    let server = S3Server::start();
    contract::check_strangers(&*backend(&server, "p"), |name| server.plant(&format!("p/{name}"), Some(b"?")));
    // Of keys that the crate takes for no path it says nothing but that, of a whole page.
    server.plant("p/epochs//x", Some(b"?"));
    let error = backend(&server, "p").list_sorted(ObjectKind::Epoch).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unavailable && error.to_string().contains("epochs//x") && error.to_string().contains("delete it"),
        "{error}"
    );
    // What consoles make to show a folder is none.
    server.plant("p/config", Some(b""));
    assert_eq!(backend(&server, "p").list_sorted(ObjectKind::Config).unwrap().len(), 1);
}

#[test]
fn a_listing_is_all_that_there_is_also_where_the_store_does_not_say_that_there_is_more() {
    let server = S3Server::start();
    let backend = backend(&server, "p");
    let list = |count: u128| {
        (0..count).for_each(|number| server.plant(&format!("p/snapshots/{number:032x}"), Some(b"?")));
        backend.list_sorted(ObjectKind::Snapshot).map(|objects| objects.len())
    };
    server.list_without_tokens(true);
    assert_eq!((list(999).unwrap(), server.requests()), (999, 1), "nobody asks again where the page is not full");
    assert_eq!((list(2000).unwrap(), server.requests()), (2000, 4));
    server.list_without_tokens(false);
    let error = list(0).unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("ListObjectsV2"), "{error}");
    let tried = try_out(&address("trial"), &settings(&server)).unwrap();
    let list = tried.iter().find(|ability| ability.name == "list after write").unwrap();
    assert!(list.need == Need::Must && list.missing().is_some_and(|why| why.contains("ListObjectsV2")), "{list:?}");
}

#[test]
fn a_bucket_without_prefix_is_a_place_too() {
    let server = S3Server::start();
    let backend = open(&Address::parse(OsStr::new("s3://bucket")).unwrap(), &settings(&server)).unwrap();
    backend.put(&NAME(), b"config").unwrap();
    assert_eq!(server.keys(), ["config/0000000001"]);
    assert_eq!(backend.list_sorted(ObjectKind::Config).unwrap().len(), 1);
}

#[test]
fn only_an_empty_place_is_taken() {
    let server = S3Server::start();
    create(&address("new"), &settings(&server)).unwrap();
    // What an interrupted init leaves is no repository, and a neighbour is none of ours.
    server.plant("new/keys/abababababababababababababababab/0000000001", Some(b"slot"));
    server.plant("newer/config/0000000001", Some(b"config"));
    create(&address("new"), &settings(&server)).unwrap();
    server.plant("new/photo.jpg", Some(b"photo"));
    assert_eq!(create(&address("new"), &settings(&server)).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(create(&address("newer"), &settings(&server)).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn what_passes_is_tried_again() {
    let server = S3Server::start();
    let backend = backend(&server, "p");
    server.fail_by(first(30, Fault::Refuse(503, "SlowDown"), |_| true));
    backend.put(&NAME(), b"config").unwrap();
    server.fail_by(first(3, Fault::CutShort, |asked| asked.method == "GET"));
    assert_eq!(backend.get(&NAME(), 100).unwrap(), b"config");
    server.fail_by(first(3, Fault::NoAnswer, |asked| asked.method == "GET"));
    assert_eq!(backend.get_range(&NAME(), 1, 2).unwrap(), b"on");
}

#[test]
fn a_store_in_trouble_is_not_waited_for_for_ever() {
    let server = S3Server::start();
    let told = Arc::new(AtomicU32::new(0));
    let mut settings = settings(&server);
    let count = Arc::clone(&told);
    settings.notice = Some(Arc::new(move |_| _ = count.fetch_add(1, Ordering::Relaxed)));
    let backend = open(&address("p"), &settings).unwrap();
    server.fail_by(|_| Some(Fault::Refuse(503, "SlowDown")));
    let error = backend.put(&pack(), b"pack").unwrap_err();
    assert!(error.to_string().contains("503 SlowDown") && error.to_string().contains("nothing is lost"), "{error}");
    let (waited, told) = (settings.runtime.clock.monotonic_ns() / 1_000_000_000, told.load(Ordering::Relaxed));
    assert!((600..640).contains(&waited), "{waited}");
    assert!((10..20).contains(&told), "told every half minute: {told}");
}

#[test]
fn an_endpoint_that_never_answered_is_given_up_soon() {
    let endpoint = S3Server::start().endpoint();
    let mut settings = settings(&S3Server::start());
    settings.options[0].1 = endpoint;
    let error = open(&address("p"), &settings).unwrap().size(&NAME()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(settings.runtime.clock.monotonic_ns() < 60_000_000_000, "{error}");
}

#[test]
fn an_endpoint_without_tls_is_named() {
    let server = S3Server::start();
    let mut settings = settings(&server);
    settings.options[0].1 = server.endpoint().replace("http://", "https://");
    let error = open(&address("p"), &settings).unwrap().size(&NAME()).unwrap_err();
    assert!(error.to_string().contains("with http://"), "{error}");
}

#[test]
fn an_object_that_an_earlier_try_made_is_ours() {
    let server = S3Server::start();
    let backend = backend(&server, "p");
    server.fail_by(first(1, Fault::NoAnswer, |asked| asked.method == "PUT"));
    backend.put(&NAME(), b"ours").unwrap();
    // Somebody else's is not, whatever the connection does.
    let mut late = backend.create(&ObjectName::config(2)).unwrap();
    late.write(b"late").unwrap();
    server.plant("p/config/0000000002", Some(b"first"));
    server.fail_by(first(2, Fault::NoAnswer, |asked| asked.method == "PUT" || asked.method == "HEAD"));
    assert_eq!(late.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(backend.get(&ObjectName::config(2), 100).unwrap(), b"first");
}

#[test]
fn a_conflict_is_no_name_that_is_taken_unless_something_is_there() {
    let server = S3Server::start();
    let backend = backend(&server, "p");
    let conflicts =
        |count| server.fail_by(first(count, Fault::Refuse(409, "Conflict"), |asked| matches!(asked.method.as_str(), "PUT" | "POST")));
    conflicts(2);
    backend.put(&NAME(), b"config").unwrap();
    assert_eq!(backend.get(&NAME(), 100).unwrap(), b"config");
    conflicts(1);
    let mut healed = backend.replace(&NAME()).unwrap();
    healed.write(b"healed").unwrap();
    healed.finish().unwrap();
    assert_eq!(backend.get(&NAME(), 100).unwrap(), b"healed");
    server.fail_by(first(1, Fault::Refuse(409, "Conflict"), |asked| asked.method == "POST" && asked.query.contains("uploadId")));
    backend.put(&pack(), &vec![7; LARGE]).unwrap();
    // Somebody else was first, and this store says so by 409.
    let mut late = backend.create(&ObjectName::parse("snapshots/abababababababababababababababab").unwrap()).unwrap();
    late.write(b"late").unwrap();
    server.plant("p/snapshots/abababababababababababababababab", Some(b"first"));
    conflicts(1);
    assert_eq!(late.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
    // It does not pass.
    server.fail_by(|asked| (asked.method == "PUT").then_some(Fault::Refuse(409, "Conflict")));
    let error = refused(&server, |backend| backend.put(&ObjectName::config(2), b"config"));
    assert!(error.to_string().contains("409 Conflict"), "{error}");
}

#[test]
fn names_that_two_may_want_are_asked_for_where_the_store_takes_no_notice_of_conditions() {
    let server = S3Server::start();
    server.ignore_conditions();
    let backend = backend(&server, "p");
    backend.put(&NAME(), b"first").unwrap();
    assert_eq!(backend.put(&NAME(), b"second").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(backend.get(&NAME(), 100).unwrap(), b"first");
}

#[test]
fn each_part_is_tried_again_by_itself() {
    let server = S3Server::start();
    let settings = settings(&server);
    let backend = open(&address("p"), &settings).unwrap();
    let bytes: Vec<u8> = (0..LARGE).map(|at| (at >> 7) as u8).collect();
    server.fail_by(first(1, Fault::NoAnswer, |asked| asked.query.contains("partNumber=2")));
    backend.put(&pack(), &bytes).unwrap();
    assert!(backend.get(&pack(), LARGE as u64).unwrap() == bytes);
    // Begin, three parts, one of them twice, and the end.
    assert_eq!(settings.traffic.requests(Request::Put), 6);
    assert_eq!(settings.traffic.sent_bytes(), (LARGE + PART_BYTES) as u64);
    assert_eq!(settings.traffic.received_bytes(), LARGE as u64);
}

#[test]
fn an_upload_that_was_completed_without_an_answer_is_complete() {
    let server = S3Server::start();
    let backend = backend(&server, "p");
    server.fail_by(first(1, Fault::NoAnswer, |asked| asked.method == "POST" && asked.query.contains("uploadId")));
    backend.put(&pack(), &vec![7; LARGE]).unwrap();
    assert_eq!(backend.size(&pack()).unwrap(), LARGE as u64);
}

#[test]
fn an_upload_that_fails_leaves_nothing() {
    let server = S3Server::start();
    server.fail_by(|asked| asked.query.contains("partNumber=2").then_some(Fault::Refuse(403, "QuotaExceeded")));
    let error = refused(&server, |backend| backend.put(&pack(), &vec![7; LARGE]));
    assert!(error.to_string().contains("no more room"), "{error}");
    assert_eq!((server.keys().len(), server.uploads()), (0, 0));
    server.fail_no_more();
    backend(&server, "p").put(&pack(), &vec![7; LARGE]).unwrap();
}

#[test]
fn refusals_say_what_to_do() {
    let server = S3Server::start();
    for (status, code, hint) in [
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "get new ones"),
        (403, "AccessDenied", "right to list"),
        (403, "SignatureDoesNotMatch", "secret key"),
        (507, "XMinioStorageFull", "no more room"),
        (400, "AuthorizationHeaderMalformed", "--region"),
    ] {
        server.fail_by(move |_| Some(Fault::Refuse(status, code)));
        let before = server.requests();
        let error = refused(&server, |backend| backend.put(&pack(), b"pack"));
        assert!(error.to_string().contains(hint), "{code}: {error}");
        assert_eq!(server.requests(), before + 1, "{code} is not tried again");
    }
    server.fail_no_more();
    let elsewhere = Address::parse(OsStr::new("s3://elsewhere/p")).unwrap();
    let absent = open(&elsewhere, &settings(&server)).unwrap();
    for error in [absent.put(&pack(), b"pack").unwrap_err(), absent.list_sorted(ObjectKind::Config).unwrap_err()] {
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("no such bucket"), "{error}");
    }
    let mut settings = settings(&server);
    settings.options[1].1 = "nobody".to_owned();
    let error = open(&address("p"), &settings).unwrap().get(&NAME(), 100).unwrap_err();
    assert!(error.to_string().contains("does not know this access key"), "{error}");
}

#[test]
fn options_that_nobody_knows_are_refused_but_not_those_of_the_environment() {
    let server = S3Server::start();
    let mut settings = settings(&server);
    settings.environment = vec![("AWS_PAGER".into(), "less".into()), ("AWS_REGION".into(), "there".into())];
    open(&address("p"), &settings).unwrap().list_sorted(ObjectKind::Config).unwrap();
    settings.options.push(("colour".into(), "red".into()));
    assert_eq!(open(&address("p"), &settings).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!format!("{settings:?}").contains("secret\""));
}

#[test]
fn requests_of_our_own_making_are_signed_by_the_same_credentials() {
    let server = S3Server::start();
    server.have_extras();
    let mut settings = settings(&server);
    let shared = bucket("p", &settings).shared;
    let path = shared.path(&NAME());
    let headers = [("x-amz-storage-class", "STANDARD_IA")];
    let put = Ask { method: Method::PUT, path: path.clone(), headers: &headers, body: b"config", ..Ask::default() };
    server.fail_by(first(2, Fault::Refuse(503, "SlowDown"), |asked| asked.method == "PUT"));
    shared.driver.ask(Request::Put, 6, || shared.signed.send(&put)).unwrap();
    let get = Ask { path: path.clone(), ..Ask::default() };
    let told = shared.driver.ask(Request::Get, 0, || shared.signed.send(&get)).unwrap();
    assert_eq!((told.text().as_str(), told.header("x-amz-storage-class"), told.header("x-none")), ("config", Some("STANDARD_IA"), None));
    assert_eq!(backend(&server, "p").get(&NAME(), 100).unwrap(), b"config");
    let missing = Ask { path: shared.path(&pack()), ..Ask::default() };
    assert!(matches!(shared.driver.ask(Request::Get, 0, || shared.signed.send(&missing)), Err(Answer::Missing)));
    settings.options[1].1 = "nobody".to_owned();
    let shared = bucket("p", &settings).shared;
    let Err(Answer::Refused(why)) = shared.driver.ask(Request::Put, 6, || shared.signed.send(&put)) else { panic!() };
    assert!(why.contains("does not know this access key") && !why.contains("X-Amz"), "{why}");
}

/// What is found of what icecore does without.
fn extras(server: &S3Server) -> Vec<(&'static str, Found)> {
    let abilities = try_out(&address("p"), &settings(server)).unwrap();
    assert_eq!((server.keys().len(), server.uploads()), (0, 0), "nothing is left");
    abilities.into_iter().filter(|ability| ability.need == Need::May).map(|ability| (ability.name, ability.found)).collect()
}

#[test]
fn what_a_store_has_beyond_what_is_needed_is_tried_out() {
    let server = S3Server::start();
    let found = |text: &str| Found::Yes(Some(text.to_owned()));
    let no = |text: &str| Found::No(text.to_owned());
    assert_eq!(
        extras(&server),
        [
            ("conditional delete", Found::Yes(None)),
            ("object lock", no("it is not switched on for this bucket")),
            ("storage classes", no("the store has only its usual one")),
        ]
    );
    server.have_extras();
    server.ignore_conditions();
    assert_eq!(
        extras(&server),
        [
            ("conditional delete", no("the condition is passed over")),
            ("object lock", found("GOVERNANCE for 30 days by default")),
            ("storage classes", found("STANDARD_IA, GLACIER_IR")),
        ]
    );
    server.fail_by(|asked| asked.query.contains("object-lock").then_some(Fault::Refuse(501, "NotImplemented")));
    assert_eq!(extras(&server)[1].1, no("the store does not know it"));
    server.fail_by(|asked| asked.query.contains("object-lock").then_some(Fault::Refuse(403, "AccessDenied")));
    assert!(matches!(&extras(&server)[1].1, Found::Unknown(why) if why.contains("AccessDenied")));
    // What cannot be found out says so, and nothing else of the trial.
    server
        .fail_by(|asked| (asked.method == "HEAD" && asked.query.contains("X-Amz-Signature")).then_some(Fault::Refuse(403, "AccessDenied")));
    assert!(matches!(&extras(&server)[2].1, Found::Unknown(why) if why.contains("403")), "{:?}", extras(&server));
}

#[test]
fn uploads_that_nobody_finishes_are_cleared_after_their_time() {
    let server = S3Server::start();
    let settings = settings(&server);
    let (backend, other) = (bucket("p", &settings), bucket("other", &settings));
    for backend in [&backend, &other] {
        let mut writer = backend.create(&pack()).unwrap();
        writer.write(&vec![7; LARGE]).unwrap();
        // As after a crash: nobody takes it back.
        std::mem::forget(writer);
    }
    // The clock of these settings stands at 1970, when the server says that all were begun.
    assert_eq!((backend.clear_unfinished(Duration::from_secs(1)), server.uploads()), (0, 2));
    assert_eq!((backend.clear_unfinished(Duration::ZERO), server.uploads()), (1, 1));
    server.fail_by(|_| Some(Fault::Refuse(403, "AccessDenied")));
    assert_eq!((other.clear_unfinished(Duration::ZERO), server.uploads()), (0, 1), "it is a service");
}

#[test]
fn listings_that_lag_behind_are_waited_for() {
    let server = S3Server::start();
    let mut settings = settings(&server);
    server.lag_listings(Arc::clone(&settings.runtime.clock), 5_000_000_000);
    let backend = open(&address("p"), &settings).unwrap();
    backend.put(&NAME(), b"config").unwrap();
    assert!(backend.list_sorted(ObjectKind::Config).unwrap().is_empty());
    let tried = try_out(&address("p"), &settings).unwrap();
    let lag = tried.iter().find(|ability| ability.name == "list after write").unwrap();
    assert!(lag.missing().is_some_and(|why| why.contains("only 5 s after") && why.contains("--listing-lag 17")), "{lag:?}");
    settings.listing_lag = Duration::from_secs(5);
    let began = settings.runtime.clock.monotonic_ns();
    let backend = open(&address("p"), &settings).unwrap();
    backend.put(&ObjectName::config(2), b"config").unwrap();
    assert_eq!(backend.list_sorted(ObjectKind::Config).unwrap().len(), 2);
    assert_eq!(settings.runtime.clock.monotonic_ns() - began, 5_000_000_000);
    let tried = try_out(&address("p"), &settings).unwrap();
    assert!(tried.iter().all(|ability| ability.need == Need::May || ability.missing().is_none()), "{tried:?}");
}
