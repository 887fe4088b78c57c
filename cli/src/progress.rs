//! How far an operation is: a bar on a terminal, and what went wrong on the way.

use crate::names::shown;
use crate::output::Output;
use crate::{interrupt, size, time};
use icecore::entry::EntryKind;
use icecore::progress::{Event, Progress};
use icecore::runtime::Runtime;
use icecore::source::{Known, Roots, SourceOptions, StatKey, Walk, WalkItem};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::json;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const REDRAW_EVERY: Duration = Duration::from_millis(200);

const STARTING: &str = "{spinner} starting";
const UNKNOWN_TOTAL: &str = "{spinner} {prefix}: {done} {msg} in {elapsed}, {rate}/s";
const BYTES_TOTAL: &str = "{prefix}: {done} of {total} {msg} [{bar:25}] {percent}%, {rate}/s{left}";
const ITEMS_TOTAL: &str = "{prefix}: {human_pos} of {human_len} [{bar:25}] {percent}%{left}";

/// What the bar counts.
const COUNTS_BYTES: u64 = 0;
const COUNTS_ITEMS: u64 = 1;

/// Shows the events of one operation; from its making on, Ctrl-C asks that operation to stop.
#[derive(Debug)]
pub(crate) struct Display<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    counts: AtomicU64,
    items: AtomicU64,
    has_said_stop: AtomicBool,
    /// Bytes in all of a phase that began without knowing; 0 while nobody knows.
    total_counted: Arc<AtomicU64>,
}

impl<'a> Display<'a> {
    pub(crate) fn start(output: &'a Output) -> io::Result<Self> {
        interrupt::catch()?;
        let bar = output.shows_progress().then(|| {
            let bar = ProgressBar::new_spinner();
            set_template(&bar, STARTING);
            bar.enable_steady_tick(REDRAW_EVERY);
            bar
        });
        Ok(Self {
            output,
            bar,
            counts: AtomicU64::new(COUNTS_BYTES),
            items: AtomicU64::new(0),
            has_said_stop: AtomicBool::new(false),
            total_counted: Arc::default(),
        })
    }

    /// Counts beside the backup how much there is, so that the bar can say how long it will take. Does nothing where there is no bar.
    pub(crate) fn count_ahead(&self, roots: &Roots, source: &SourceOptions, runtime: &Runtime) {
        if self.bar.is_none() {
            return;
        }
        // What is wrong with the request, the backup itself says.
        let Ok(walk) = Walk::start(roots, source, Some(Arc::new(NoDetails)), runtime) else { return };
        let total = Arc::clone(&self.total_counted);
        let count = move || {
            let sizes = walk.filter_map(|item| match item {
                Ok(WalkItem::Entry(entry)) => match entry.entry.kind {
                    EntryKind::File(content) => Some(content.size),
                    _ => None,
                },
                _ => None,
            });
            total.store(sizes.sum(), Ordering::Relaxed);
        };
        // Without it there is no total to show.
        let _ = runtime.executor.spawn("icecore-count", Box::new(count));
    }

    fn begin_phase(&self, name: &str, bytes_total: Option<u64>, items_total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        let (template, counts) = match (bytes_total, items_total) {
            (Some(_), _) => (BYTES_TOTAL, COUNTS_BYTES),
            (None, Some(_)) => (ITEMS_TOTAL, COUNTS_ITEMS),
            (None, None) => (UNKNOWN_TOTAL, COUNTS_BYTES),
        };
        self.counts.store(counts, Ordering::Relaxed);
        self.items.store(0, Ordering::Relaxed);
        match bytes_total.or(items_total) {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_prefix(name.to_owned());
        set_template(bar, template);
        bar.set_message("");
        bar.reset();
    }

    fn advance(&self, bytes: u64, items: u64) {
        let Some(bar) = &self.bar else { return };
        let total = self.total_counted.swap(0, Ordering::Relaxed);
        if total > 0 && bar.length().is_none() {
            bar.set_length(total);
            set_template(bar, BYTES_TOTAL);
        }
        let done = self.items.fetch_add(items, Ordering::Relaxed) + items;
        match self.counts.load(Ordering::Relaxed) {
            COUNTS_ITEMS => bar.inc(items),
            _ => bar.inc(bytes),
        }
        if items > 0 {
            bar.set_message(format!("({} items)", size::count(done)));
        }
    }

    /// Runs `say` while the bar is out of the way.
    fn aside(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

impl Progress for Display<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase { name, bytes_total, items_total } => self.begin_phase(name, bytes_total, items_total),
            Event::Advance { bytes, items } => self.advance(bytes, items),
            Event::ItemFailed { item, message } if self.output.is_json() => {
                // Nobody can be told where this fails.
                let _ = self.output.json("item_failed", json!({"item": item, "message": message}));
            }
            Event::ItemFailed { item, message } => self.aside(|| self.output.warn(item_failed(item, message))),
            Event::ItemWaits { item, tier } if self.output.is_json() => {
                let _ = self.output.json("item_failed", json!({"item": item, "message": format!("waits for tier {tier}"), "tier": tier}));
            }
            Event::ItemWaits { item, tier } => {
                self.aside(|| self.output.detail(format_args!("{}: waits for tier {tier}", shown(item.as_bytes()))));
            }
            Event::Change { item, change, bytes } => self.aside(|| {
                // Nobody can be told where this fails.
                let _ = self.output.change(item, change, bytes);
            }),
            Event::Notice { message } => self.aside(|| self.output.note(shown(message.as_bytes()))),
            _ => {}
        }
    }

    fn is_cancelled(&self) -> bool {
        let is_interrupted = interrupt::is_interrupted();
        if is_interrupted && !self.has_said_stop.swap(true, Ordering::Relaxed) {
            self.aside(|| self.output.note("stopping after what is being written; interrupt again to stop at once"));
        }
        is_interrupted
    }
}

impl Drop for Display<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Keeps a walk that only counts from reading attributes.
#[derive(Debug)]
struct NoDetails;

impl Known for NoDetails {
    fn is_known(&self, _: &[u8], _: &StatKey) -> bool {
        true
    }
}

/// Sizes, rates and durations are shown as everywhere else.
fn set_template(bar: &ProgressBar, template: &str) {
    let done = |state: &ProgressState, out: &mut dyn Write| put(out, &size::bytes(state.pos()));
    let total = |state: &ProgressState, out: &mut dyn Write| put(out, &size::bytes(state.len().unwrap_or(0)));
    let rate = |state: &ProgressState, out: &mut dyn Write| put(out, &size::bytes(state.per_sec() as u64));
    let left = |state: &ProgressState, out: &mut dyn Write| {
        let left = state.eta().as_secs();
        if state.pos() > 0 && left > 0 {
            put(out, &format!(", {} left", time::duration(left * 1_000_000_000)));
        }
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        let style = style.with_key("done", done).with_key("total", total).with_key("rate", rate).with_key("left", left);
        bar.set_style(style.progress_chars("=> "));
    }
}

fn put(out: &mut dyn Write, text: &str) {
    // What cannot be written cannot be shown; the operation goes on.
    let _ = out.write_str(text);
}

/// One line, which begins with the item. Some messages of the engine begin with it, too.
fn item_failed(item: &str, message: &str) -> String {
    let (item, message) = (shown(item.as_bytes()), shown(message.as_bytes()));
    let what =
        [format!("{item}: "), format!("`{item}`: ")].iter().find_map(|begin| message.strip_prefix(begin)).unwrap_or(&message).to_owned();
    format!("{item}: {what}")
}

#[cfg(test)]
mod tests {
    use super::item_failed;

    #[test]
    fn an_item_that_failed_is_named_once() {
        for message in ["sock: it holds sockets", "`sock`: it holds sockets", "it holds sockets"] {
            assert_eq!(item_failed("sock", message), "sock: it holds sockets");
        }
        assert_eq!(item_failed(".", "attribute trusted.a: no"), ".: attribute trusted.a: no");
    }
}
