//! Scratch.
use icecore_model::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut s = Shape::EMPTY;
    for a in &args[1..] {
        let (k, v) = a.split_once('=').unwrap_or((a, "1"));
        let n: usize = v.parse().unwrap_or(0);
        match k {
            "w" => s.writers = n, "c" => s.collectors = n, "f" => s.forget = n as u8, "r" => s.reader = true, "o" => s.observer = true,
            "repack" => s.repack = true, "reframe" => s.reframe = true, "subtree" => s.subtree = true, "stale" => s.stale = true,
            "same" => s.same_chunk = true, "dead" => s.dead_chunk = true,
            "no" => s.without = Some(Rule::ALL.into_iter().find(|r| format!("{r:?}") == v).expect("rule")),
            "t" => {}
            _ => panic!("{k}"),
        }
    }
    let max = 60_000_000;
    let t = std::time::Instant::now();
    let found = search(&s, max);
    println!("{found:?} {:?}", t.elapsed());
    if args.iter().any(|a| a == "t") && matches!(found.outcome, Outcome::Lost(_)) { println!("{}", trace(&s, max)); }
}
