//! A backup and a restore keep to the memory that they are given, whatever they read.

use crate::home::{Home, noise};
use icecore::testing::process::{MemoryGroup, wait_for_peak};
use std::process::{Command, Stdio};

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

/// A large file, and small ones; the same again with a part of each changed: two snapshots that share most frames.
fn with_two_snapshots() -> Home {
    let home = Home::new();
    let mut large = noise(1, 64 << 20);
    for seed in [1, 2] {
        home.write("data/large", &large);
        for number in 0..2000 {
            home.write(&format!("data/small/{number}"), noise(number % 97 * seed + 2, 3 << 10));
        }
        home.run(0, &["backup", "data", "--no-delta"]);
        large.chunks_mut(512 << 10).for_each(|part| part[..4096].fill(7));
    }
    home
}

#[test]
fn a_restore_keeps_to_its_memory() {
    let home = with_two_snapshots();
    for (threads, mib, memory) in [("2", 64, Some("64M")), ("8", 128, Some("128M")), ("2", 128, None)] {
        let target = format!("restored-{threads}-{}", memory.is_some());
        let mut arguments = vec!["restore", "latest", "--target", &target, "--threads", threads];
        arguments.extend(memory.iter().flat_map(|memory| ["--memory", memory]));
        let mut child = home.command(&arguments).stdout(Stdio::null()).spawn().unwrap();
        let (status, peak) = wait_for_peak(&mut child).unwrap();
        assert!(status.success());
        assert!((4 << 20..=mib * MIB).contains(&peak), "{} KiB with {threads} threads and --memory {memory:?}", peak >> 10);
        assert_eq!(std::fs::read(home.path(&format!("{target}/data/large"))).unwrap(), std::fs::read(home.path("data/large")).unwrap());
    }
    let said = home.run(2, &["restore", "latest", "--target", "x", "--memory", "20M"]).stderr;
    assert!(said.contains("at least"), "{said}");
    assert!(!home.path("x").exists());
}

/// The kernel ends a process that takes more. Pages of files that are read and written have room too: it gives these up first.
#[test]
fn within_a_memory_cgroup_both_go_on() {
    let budget = 72 * MIB;
    let group = match MemoryGroup::new(budget) {
        Ok(group) => group,
        Err(error) => return eprintln!("SKIPPED, nothing was tested: no memory cgroup can be made here: {error}"),
    };
    let home = with_two_snapshots();
    home.write("data/another", noise(3, 96 << 20));
    let memory = budget.to_string();
    let within = |arguments: &[&str]| {
        let plain = home.command(&[arguments, &["--memory", &memory, "--threads", "2"]].concat());
        let mut command = group.command(plain.get_program());
        command.args(plain.get_args()).env_clear().current_dir(home.path("")).stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        crate::home::finish(0, &mut command)
    };
    within(&["backup", "data", "--no-cache"]);
    within(&["restore", "latest", "--target", "restored"]);
    assert_eq!(std::fs::read(home.path("restored/data/another")).unwrap(), noise(3, 96 << 20));
    // And it is the group that limits: what needs more is ended.
    let greedy: &mut Command = &mut group.command("/bin/sh");
    let ended = greedy.args(["-c", "head -c 200000000 /dev/zero | tail -c 200000000 > /dev/null"]).status().unwrap();
    assert!(!ended.success(), "{ended}");
}
