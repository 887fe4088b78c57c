//! Databases as their own programs save them. What is not installed is skipped, loudly; `tests/install-programs` installs it.

use crate::home::Home;
use rustix::process::geteuid;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Where Debian puts programs that are not on the path of everybody.
fn find(program: &str) -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let mut folders: Vec<PathBuf> = versions.collect();
    folders.sort();
    folders.extend(["/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin"].map(PathBuf::from));
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("!!! SKIPPED: {program} is not installed, so backups of what it writes were not tested");
    }
    found
}

/// Who runs servers: they refuse root.
const NOBODY: u32 = 65_534;

fn as_nobody(command: &mut Command) -> &mut Command {
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").stdin(Stdio::null())
}

#[track_caller]
fn must(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// A server that is stopped at the end, whatever happens.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Waits until `probe` works.
    #[track_caller]
    fn wait_for(&mut self, mut probe: impl FnMut() -> bool) {
        while !probe() {
            assert!(self.0.try_wait().unwrap().is_none(), "the server ended early");
            std::thread::yield_now();
        }
    }
}

/// A folder in the home that a server may write to.
fn folder_for_server(home: &Home, name: &str) -> PathBuf {
    let path = home.path(name);
    fs::create_dir(&path).unwrap();
    if geteuid().is_root() {
        chown(home.0.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    path
}

#[test]
fn sqlite() {
    let Some(sqlite) = find("sqlite3") else { return };
    let home = Home::new();
    let query = |database: &Path, sql: &str| must(Command::new(&sqlite).arg(database).arg(sql));
    let live = home.path("live.db");
    query(&live, "pragma journal_mode = wal; create table layers (depth integer, name text);");
    query(
        &live,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into layers select i, hex(randomblob(20)) from n;",
    );
    let digest = query(&live, "select count(*), sum(depth), max(name) from layers;");

    // Its own copy, which is consistent whatever is written meanwhile.
    home.run(0, &["backup", "copy.db", "--before", "sqlite3 live.db '.backup copy.db'", "--after", "rm copy.db"]);
    assert!(!home.path("copy.db").exists());
    home.run(0, &["restore", "latest", "--target", "back"]);
    assert_eq!(query(&home.path("back/copy.db"), "select count(*), sum(depth), max(name) from layers;"), digest);

    home.run(0, &["backup", "--exec", "--name", "live.sql", "--", "sqlite3", "-readonly", "live.db", ".dump"]);
    home.write("live.sql", home.cat("live.sql"));
    must(Command::new("sh").arg("-c").arg("sqlite3 again.db < live.sql").current_dir(home.0.path()));
    assert_eq!(query(&home.path("again.db"), "select count(*), sum(depth), max(name) from layers;"), digest);

    let before = home.snapshots();
    home.run(1, &["backup", "--exec", "--name", "live.sql", "--", "sqlite3", "-readonly", "missing.db", ".dump"]);
    assert_eq!(home.snapshots(), before);
}

#[test]
fn postgresql() {
    let (Some(initdb), Some(postgres), Some(dump)) = (find("initdb"), find("postgres"), find("pg_dump")) else { return };
    let (Some(basebackup), Some(verify), Some(psql)) = (find("pg_basebackup"), find("pg_verifybackup"), find("psql")) else { return };
    let home = Home::new();
    let data = folder_for_server(&home, "data");
    must(as_nobody(&mut Command::new(initdb)).args(["--auth=trust", "--no-sync", "-U", "ann", "-D"]).arg(&data));
    let start = |data: &Path| {
        let mut command = Command::new(&postgres);
        as_nobody(&mut command).arg("-D").arg(data).args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"]);
        command.arg(format!("unix_socket_directories={}", data.display()));
        let mut server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let probe = || query_status(&psql, data, "select 1").is_some();
        server.wait_for(probe);
        server
    };
    let server = start(&data);
    let query = |data: &Path, sql: &str| query_status(&psql, data, sql).unwrap();
    query(&data, "create table layers as select i as depth, md5(i::text) as name from generate_series(1, 50000) as i");
    let digest = "select count(*), sum(depth), md5(string_agg(name, '' order by depth)) from layers";
    let expected = query(&data, digest);
    let socket = data.to_str().unwrap();

    let dump = dump.to_str().unwrap();
    home.run(0, &["backup", "--exec", "--name", "layers.sql", "--", dump, "-h", socket, "-U", "ann", "postgres"]);
    query(&data, "create database again");
    home.write("layers.sql", home.cat("layers.sql"));
    must(as_nobody(&mut Command::new(&psql)).args(["-q", "-h", socket, "-U", "ann", "-f"]).arg(home.path("layers.sql")).arg("again"));
    let again = must(as_nobody(&mut Command::new(&psql)).args(["-At", "-h", socket, "-U", "ann", "-c", digest, "again"]));
    assert_eq!(again, expected);
    let before = home.snapshots();
    home.run(1, &["backup", "--exec", "--name", "layers.sql", "--", dump, "-h", socket, "-U", "ann", "nosuch"]);
    assert_eq!(home.snapshots(), before);

    // The whole cluster, while it is written to.
    let basebackup = basebackup.to_str().unwrap();
    let arguments = ["-h", socket, "-U", "ann", "-D", "-", "-Ft", "-X", "fetch", "-c", "fast", "--no-sync"];
    home.run(0, &[&["backup", "--tar", "--exec", "--name", "cluster", "--", basebackup][..], &arguments].concat());
    drop(server);
    // The archive says nothing of the folder itself, and the server wants it for its own.
    let cluster = folder_for_server(&home, "cluster");
    fs::set_permissions(&cluster, PermissionsExt::from_mode(0o700)).unwrap();
    // PostgreSQL names the user `postgres` whoever runs the server; the numbers are true.
    home.run(0, &["restore", "latest", "--target", "cluster", "--numeric-owner"]);
    fs::set_permissions(&cluster, PermissionsExt::from_mode(0o700)).unwrap();
    if geteuid().is_root() {
        chown(&cluster, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    // Not as the server: the manifest is pg_basebackup's own, and belongs to user 2048 in the archive.
    must(Command::new(verify).env("LC_ALL", "C.UTF-8").arg(&cluster));
    let _server = start(&cluster);
    assert_eq!(query(&cluster, digest), expected);
}

/// What the server in `data` answers, if it does.
fn query_status(psql: &Path, data: &Path, sql: &str) -> Option<String> {
    let mut command = Command::new(psql);
    as_nobody(&mut command).arg("-At").arg("-h").arg(data).args(["-U", "ann", "-c", sql, "postgres"]);
    let output = command.output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn mariadb() {
    let (Some(install), Some(server), Some(client)) = (find("mariadb-install-db"), find("mariadbd"), find("mariadb")) else { return };
    let Some(dump) = find("mariadb-dump") else { return };
    let home = Home::new();
    let data = folder_for_server(&home, "data");
    let socket = format!("--socket={}", home.path("s").display());
    let own = ["--no-defaults".to_owned(), format!("--datadir={}", data.display())];
    let mut command = Command::new(install);
    must(as_nobody(&mut command).args(&own).args(["--auth-root-authentication-method=normal", "--skip-test-db"]).current_dir(&data));
    let mut command = Command::new(server);
    as_nobody(&mut command).args(&own).arg(&socket).args(["--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
    let mut running = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let query = |database: &str, sql: &str| {
        let output = Command::new(&client).args(["--no-defaults", &socket, "-u", "root", "-N", "-e", sql, database]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    running.wait_for(|| query("mysql", "select 1").is_some());
    query("mysql", "create database shop; create database again").unwrap();
    query("shop", "create table layers (depth int, name text) as select seq as depth, md5(seq) as name from seq_1_to_20000").unwrap();
    let digest = "select count(*), sum(depth), sum(crc32(name)) from layers";
    let expected = query("shop", digest).unwrap();

    let dump = dump.to_str().unwrap();
    let arguments = ["--no-defaults", &socket, "-u", "root", "--single-transaction"];
    let of = |code, database: &str| {
        home.run(code, &[&["backup", "--exec", "--name", "shop.sql", "--", dump][..], &arguments, &[database]].concat());
    };
    of(0, "shop");
    home.write("shop.sql", home.cat("shop.sql"));
    let sql = fs::File::open(home.path("shop.sql")).unwrap();
    must(Command::new(&client).args(["--no-defaults", &socket, "-u", "root", "again"]).stdin(sql));
    assert_eq!(query("again", digest).unwrap(), expected);
    let before = home.snapshots();
    of(1, "nosuch");
    assert_eq!(home.snapshots(), before);
}
