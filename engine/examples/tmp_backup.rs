use icecore::backend::LocalBackend;
use icecore::backup::*;
use icecore::progress::Silent;
use icecore::repository::*;
use icecore::runtime::Runtime;
use icecore::source::*;
use std::sync::Arc;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let key = Key::from_key_file(&std::fs::read_to_string("/tmp/kf").unwrap_or_else(|_| {
        let k = Key::generate(&Runtime::system(1)).to_key_file().unwrap().to_string();
        std::fs::write("/tmp/kf", &k).unwrap();
        k
    }))
    .unwrap();
    let rt = Runtime::system(0);
    let set = Settings::default().with_cache("/tmp/icecache");
    let repo = if a[1] == "init" {
        Repository::create(Arc::new(LocalBackend::create(&a[2]).unwrap()), rt, &key, &CreateOptions::default(), set).unwrap()
    } else {
        Repository::open(Arc::new(LocalBackend::open(&a[2]).unwrap()), rt, &key, set).unwrap()
    };
    let roots = Roots::resolve(&[a[3].clone().into()]).unwrap();
    let mut o = BackupOptions::new(a[3].clone());
    if let Some(l) = a.get(4) {
        o.level = l.parse().unwrap();
    }
    println!("{:#?}", repo.backup(&roots, &SourceOptions::default(), &o, &Silent).unwrap());
}
