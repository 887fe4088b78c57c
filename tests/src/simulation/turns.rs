//! Whose turn it is: threads of the simulated processes are coroutines of one real thread, and the seed says which of them goes on.
//!
//! A coroutine gives its turn away where it waits, at every channel, and at every call of the store. So the order of everything that processes
//! do to one another is a function of the seed.

use super::random::Random;
use generator::{Generator, Gn};
use icecore::runtime::turns::{Turns, take_turns};
use icecore::runtime::{Clock, Executor, Timestamp};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};

/// Words of a coroutine's stack; pages that are not touched cost nothing.
const STACK_WORDS: usize = 256 << 10;
/// More than any schedule takes: beyond, something turns in a circle.
const STEPS_MAX: u64 = 2_000_000;
const SECOND_NS: u64 = 1_000_000_000;

thread_local! {
    /// Coroutines that have ended, whose stacks serve others.
    static IDLE: RefCell<Vec<Generator<'static, (), ()>>> = const { RefCell::new(Vec::new()) };
}

type Work = Box<dyn FnOnce() + Send>;

/// What a coroutine waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Nothing,
    Event(u64, Option<u64>),
}

#[derive(Debug)]
struct Process {
    /// How much more often than others it is chosen.
    weight: u64,
    /// Until which step it does not run, as one whose machine sleeps.
    sleeps_until: u64,
}

struct State {
    random: Random,
    processes: Vec<Process>,
    spawned: Vec<(usize, Work)>,
    wait: Wait,
    notified: Vec<u64>,
    running: usize,
    now_ns: u64,
    steps: u64,
    leaps: u64,
    sleeps: u64,
    jumps: u64,
    panics: Vec<String>,
}

/// Decides whose turn it is.
pub struct Scheduler(Mutex<State>);

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scheduler")
    }
}

struct Task {
    coroutine: Generator<'static, (), ()>,
    process: usize,
    wait: Wait,
}

/// What happened to time and processes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turned {
    /// Turns that were taken.
    pub steps: u64,
    /// Times that the clock leapt by minutes.
    pub leaps: u64,
    /// Times that a process was suspended while others went on.
    pub sleeps: u64,
    /// Times that a machine's clock jumped by years.
    pub jumps: u64,
}

impl Scheduler {
    /// Chooses as `random` says.
    pub fn new(random: Random) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            random,
            processes: Vec::new(),
            spawned: Vec::new(),
            wait: Wait::Nothing,
            notified: Vec::new(),
            running: 0,
            now_ns: 0,
            steps: 0,
            leaps: 0,
            sleeps: 0,
            jumps: 0,
            panics: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds a process and gives its number.
    pub fn process(&self) -> usize {
        let mut state = self.state();
        let weight = 1 << (2 * state.random.below(5));
        state.processes.push(Process { weight, sleeps_until: 0 });
        state.processes.len() - 1
    }

    /// Gives a process something to do, on a thread of its own.
    pub fn spawn(&self, process: usize, work: Work) {
        self.state().spawned.push((process, work));
    }

    /// Lets everybody's clock go on.
    pub fn leap(&self, seconds: u64) {
        self.state().now_ns += seconds * SECOND_NS;
    }

    /// The true time.
    pub fn now_ns(&self) -> u64 {
        self.state().now_ns
    }

    /// What happened so far.
    pub fn turned(&self) -> Turned {
        let state = self.state();
        Turned { steps: state.steps, leaps: state.leaps, sleeps: state.sleeps, jumps: state.jumps }
    }

    /// Others may run first; nothing outside of a simulated thread.
    pub fn pass(&self) {
        self.give(Wait::Nothing);
    }

    fn give(&self, wait: Wait) {
        if generator::is_generator() {
            self.state().wait = wait;
            Self::switch();
        }
    }

    /// Gives the turn back to whoever runs the coroutines.
    #[allow(deprecated, reason = "the place that yields is deep in the engine, and cannot be handed a scope")]
    fn switch() {
        generator::yield_with(());
    }

    /// Runs until every thread has ended.
    ///
    /// # Errors
    /// Where all wait and nobody can go on, where there is no end, and where a thread panicked.
    pub fn run(self: &Arc<Self>) -> Result<(), String> {
        let turns: Rc<dyn Turns> = Rc::new(Turning(Arc::clone(self)));
        take_turns(turns, || self.run_all())
    }

    fn run_all(self: &Arc<Self>) -> Result<(), String> {
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            self.take_spawned(&mut tasks);
            let Some(chosen) = self.choose(&mut tasks)? else { break };
            let task = &mut tasks[chosen];
            task.coroutine.resume();
            if task.coroutine.is_done() {
                IDLE.with_borrow_mut(|idle| idle.push(tasks.swap_remove(chosen).coroutine));
            } else {
                task.wait = self.state().wait;
            }
        }
        match self.state().panics.first() {
            Some(panic) => Err(format!("a thread panicked: {panic}")),
            None => Ok(()),
        }
    }

    fn take_spawned(self: &Arc<Self>, tasks: &mut Vec<Task>) {
        let spawned = std::mem::take(&mut self.state().spawned);
        for (process, work) in spawned {
            let this = Arc::clone(self);
            let body = move || {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    this.state().panics.push(text.unwrap_or_else(|| "without a message".to_owned()));
                }
            };
            let coroutine = match IDLE.with_borrow_mut(Vec::pop) {
                Some(mut coroutine) => {
                    coroutine.init_code(body);
                    coroutine
                }
                None => Gn::<()>::new_opt(STACK_WORDS, body),
            };
            tasks.push(Task { coroutine, process, wait: Wait::Nothing });
        }
    }

    /// Whose turn it is; `None` where nobody is left.
    fn choose(&self, tasks: &mut [Task]) -> Result<Option<usize>, String> {
        let state = &mut *self.state();
        if !state.panics.is_empty() {
            // What waits for a thread that panicked may wait for ever.
            return Ok(None);
        }
        for task in tasks.iter_mut() {
            if matches!(task.wait, Wait::Event(event, _) if state.notified.contains(&event)) {
                task.wait = Wait::Nothing;
            }
        }
        state.notified.clear();
        if tasks.is_empty() {
            return Ok(None);
        }
        state.steps += 1;
        if state.steps > STEPS_MAX {
            return Err(format!("{STEPS_MAX} turns and no end"));
        }
        state.now_ns += state.random.below(20_000_000);
        if state.random.one_in(400) {
            state.leaps += 1;
            state.now_ns += (1 + state.random.below(1200)) * SECOND_NS;
        }
        if state.random.one_in(150) {
            state.sleeps += 1;
            let until = state.steps + 1 + state.random.below(600);
            let running = state.running;
            state.processes[running].sleeps_until = until;
        }
        if state.random.one_in(40) {
            let process = state.random.below(state.processes.len() as u64) as usize;
            state.processes[process].weight = 1 << (2 * state.random.below(5));
        }
        loop {
            let can_go_on = |task: &Task| match task.wait {
                Wait::Nothing => true,
                Wait::Event(_, until) => until.is_some_and(|until| until <= state.now_ns),
            };
            let able: Vec<usize> = (0..tasks.len()).filter(|at| can_go_on(&tasks[*at])).collect();
            if able.is_empty() {
                let next = tasks.iter().filter_map(|task| if let Wait::Event(_, until) = task.wait { until } else { None }).min();
                match next {
                    Some(next) => state.now_ns = next,
                    None => return Err(format!("all {} threads wait, and nobody can go on", tasks.len())),
                }
                continue;
            }
            let weight = |at: &usize| {
                let process = &state.processes[tasks[*at].process];
                if process.sleeps_until > state.steps { 0 } else { process.weight }
            };
            let all: u64 = able.iter().map(weight).sum();
            if all == 0 {
                // Everybody who could go on sleeps: the first wakes up.
                state.processes[tasks[able[0]].process].sleeps_until = 0;
                continue;
            }
            let mut number = state.random.below(all);
            let chosen = able.iter().copied().find(|at| match weight(at) {
                weight if number < weight => true,
                weight => {
                    number -= weight;
                    false
                }
            });
            let chosen = chosen.unwrap_or(able[0]);
            state.running = tasks[chosen].process;
            return Ok(Some(chosen));
        }
    }
}

/// What the engine asks where it would block.
#[derive(Debug)]
struct Turning(Arc<Scheduler>);

impl Turns for Turning {
    fn pass(&self) {
        self.0.pass();
    }

    fn wait(&self, event: u64, until_ns: Option<u64>) {
        self.0.give(Wait::Event(event, until_ns));
    }

    fn notify(&self, event: u64) {
        self.0.state().notified.push(event);
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.now_ns()
    }
}

/// Threads of a process.
#[derive(Debug)]
pub struct Threads {
    /// Who decides.
    pub scheduler: Arc<Scheduler>,
    /// Whose threads they are.
    pub process: usize,
    /// How many the engine is told to use.
    pub count: usize,
}

impl Executor for Threads {
    fn threads(&self) -> usize {
        self.count
    }

    fn spawn(&self, _: &str, work: Work) -> Result<(), icecore::Error> {
        self.scheduler.spawn(self.process, work);
        Ok(())
    }
}

/// The clock of a machine: the monotonic one goes with all others, the one on the wall is off, and jumps.
#[derive(Debug)]
pub struct MachineClock {
    /// Who knows the true time.
    pub scheduler: Arc<Scheduler>,
    /// How far it is off, and where the next jumps come from.
    pub off: Mutex<(i64, Random)>,
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        const YEAR: i64 = 31_557_600;
        // Later than any file of the machine that simulates, whenever that is: only then a schedule is the same for ever.
        const TODAY: i64 = 4_000_000_000;
        let mut off = self.off.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if off.1.one_in(8) {
            off.0 = (off.1.below(21) as i64 - 10) * YEAR;
            self.scheduler.state().jumps += 1;
        }
        let now = self.scheduler.now_ns();
        Timestamp { seconds: TODAY + off.0 + (now / SECOND_NS) as i64, nanoseconds: (now % SECOND_NS) as u32 }
    }

    fn monotonic_ns(&self) -> u64 {
        self.scheduler.now_ns()
    }

    fn sleep_ns(&self, nanoseconds: u64) {
        let until = self.scheduler.now_ns() + nanoseconds;
        while generator::is_generator() && self.scheduler.now_ns() < until {
            self.scheduler.give(Wait::Event(0, Some(until)));
        }
    }
}
