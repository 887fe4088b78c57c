//! A backup keeps to the memory that it is given, whatever it reads.

use crate::home::{Home, noise};

const MIB: u64 = 1 << 20;

/// The most memory that the process of a backup of `data` ever had, in bytes, as the kernel saw it.
fn peak(home: &Home, options: &[&str]) -> u64 {
    let after = "grep VmHWM /proc/$PPID/status > peak";
    home.run(0, &[&["backup", "data", "--no-cache", "--after", after], options].concat());
    let line = std::fs::read_to_string(home.path("peak")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_backup_keeps_to_its_memory() {
    let large = noise(1, 96 << 20);
    for (threads, mib, memory) in [("2", 72, Some("72M")), ("8", 128, Some("128M")), ("2", 128, None)] {
        let home = Home::new();
        home.write("data/large", &large);
        for number in 0..400 {
            home.write(&format!("data/small/{number}"), noise(number + 2, 100 << 10));
        }
        let mut options = vec!["--threads", threads];
        options.extend(memory.iter().flat_map(|memory| ["--memory", memory]));
        let peak = peak(&home, &options);
        assert!(peak <= mib * MIB, "{} KiB with {threads} threads and --memory {memory:?}", peak >> 10);
    }
    let home = Home::new();
    home.write("data/file", "x");
    let said = home.run(2, &["backup", "data", "--memory", "20M"]).stderr;
    assert!(said.contains("at least"), "{said}");
}
