use super::writer::PART_BYTES;
use crate::backend::testing::contract;
use crate::backend::testing::s3::{ACCESS_KEY, Asked, BUCKET, Fault, S3Server};
use crate::backend::{Address, Backend, BackendExt, ObjectKind, ObjectName, Request, StoreSettings, create, open};
use crate::error::{Error, ErrorKind};
use crate::runtime::{Runtime, Timestamp};
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
        let address = address(&format!("some/prefix{}", next.fetch_add(1, Ordering::Relaxed)));
        let super::super::Address::Bucket(address) = address else { panic!("{address}") };
        Box::new(super::ObjectStoreBackend::open(&address, &settings).unwrap())
    });
    assert_eq!(server.uploads(), 0, "dropped writers leave no upload");
}

#[test]
fn strangers_are_reported() {
    let server = S3Server::start();
    contract::check_strangers(&*backend(&server, "p"), |name| server.plant(&format!("p/{name}"), Some(b"?")));
    // What consoles make to show a folder is none.
    server.plant("p/config", Some(b""));
    assert_eq!(backend(&server, "p").list_sorted(ObjectKind::Config).unwrap().len(), 1);
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
