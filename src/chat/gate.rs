//! How many requests one endpoint is given at once: found out, not asked for.
//!
//! No constant is right: a small server has four slots, a large one gains up to five hundred. The limit
//! doubles while that brings more answers a second, and goes back one step when it does not: there is
//! the knee, beyond which requests only wait. From then on a trial now and then looks whether the knee
//! has moved, ever more rarely while it has not. A refusal (429, 503, timeout) cuts the limit to seven
//! tenths at once, and it climbs back by one a window: additive increase, multiplicative decrease.
//!
//! Answers a second are requests in flight over the time that one takes (Little's law), from the answers
//! of a window. They are not counted against a clock: answers come in bursts, and a window that ends
//! within one would find another rate each time. After each change of the limit, only what was asked for
//! since then counts.

use std::time::Duration;

use crate::chat::desk::Reached;

/// What a step must bring to be worth it: less than this and it is noise.
const GAIN: f64 = 1.03;

/// What twice as many bring where the knee is far: seen at the first look.
const SURE: f64 = 1.6;

/// What is left of the limit after a refusal.
const CUT: f64 = 0.7;

/// A trial goes up or down by this part of the limit.
const TRIAL: usize = 8;

/// Windows between two trials at first; twice as many after each that found nothing.
const PAUSE: u32 = 4;
const LONGEST_PAUSE: u32 = 64;

/// Answers of a window at least: fewer say nothing of a rate.
const SHORTEST_WINDOW: usize = 32;

/// The limit of one endpoint, and how it came to be.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    limit: usize,
    most: usize,
    in_flight: usize,
    phase: Phase,
    /// Changes so far.
    epoch: u64,
    window: Window,
    /// Windows between trials.
    pause: u32,
    /// Whether the next trial goes down.
    is_next_down: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Twice as many, as long as that helps; the limit and the rate before, and whether this limit is
    /// looked at a second time.
    Doubling(Option<(usize, f64)>, bool),
    /// Back up by one a window, to where it was refused.
    Climbing { until: usize },
    /// At the knee, for so many windows.
    Steady { windows: u32 },
    /// Another limit, for one window; the limit and the rate before.
    Trial { limit: usize, rate: f64 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Answers that are still to pass: the first of a round find a shorter queue than those after them.
    skip: usize,
    done: usize,
    /// Of all of them together.
    took: Duration,
    /// Answers that came while others waited to be asked for: only then does the limit say something.
    wanted: usize,
}

/// How a request ended, as far as it says something of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With an answer.
    Served,
    /// With a refusal for being too many.
    Refused,
    /// Otherwise.
    Failed,
}

impl Gate {
    pub(super) fn new(start: usize, most: usize) -> Gate {
        let most = most.max(1);
        let limit = start.clamp(1, most);
        let phase = match limit == most {
            true => Phase::Steady { windows: 0 },
            false => Phase::Doubling(None, false),
        };
        Gate {
            limit,
            most,
            in_flight: 0,
            phase,
            epoch: 0,
            window: Window::default(),
            pause: PAUSE,
            is_next_down: false,
        }
    }

    /// Requests that may be in flight.
    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Requests that may ever be in flight.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many at once it is good for, as far as that was found out.
    pub(super) fn reached(&self) -> (usize, Reached) {
        let limit = match self.phase {
            Phase::Doubling(..) => return (self.limit, Reached::Unknown),
            Phase::Climbing { .. } | Phase::Steady { .. } => self.limit,
            Phase::Trial { limit, .. } => limit,
        };
        (limit, if limit == self.most { Reached::Cap } else { Reached::Knee })
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.limit
    }

    /// The endpoint says how many it takes.
    pub(super) fn cap(&mut self, most: usize) {
        self.most = most.clamp(1, self.most);
        self.limit = self.limit.min(self.most);
    }

    /// A request begins; what it says later is of the limit of now.
    pub(super) fn enter(&mut self) -> u64 {
        self.in_flight += 1;
        self.epoch
    }

    /// A request of an epoch took so long; and whether others wait for its place.
    pub(super) fn leave(&mut self, epoch: u64, ended: Ended, took: Duration, is_wanted: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match ended {
            // One overload refuses many at once, and they all mean the same.
            _ if epoch != self.epoch => {}
            Ended::Refused => self.refused(),
            Ended::Served => self.served(is_wanted, took),
            Ended::Failed => {}
        }
    }

    fn refused(&mut self) {
        let until = match self.phase {
            Phase::Trial { limit, .. } => limit,
            _ => self.limit.saturating_sub(1).max(1),
        };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.change((self.limit as f64 * CUT) as usize, Phase::Climbing { until });
    }

    fn served(&mut self, is_wanted: bool, took: Duration) {
        if self.window.skip > 0 {
            self.window.skip -= 1;
            return;
        }
        self.window.done += 1;
        self.window.took += took;
        self.window.wanted += usize::from(is_wanted);
        let long = match self.phase {
            // Below the knee twice as many bring nearly twice as much: that needs no long look.
            Phase::Doubling(..) => self.limit,
            Phase::Climbing { .. } => SHORTEST_WINDOW.max(self.limit),
            // A trial differs by an eighth: less than what one round differs from the next.
            Phase::Steady { .. } | Phase::Trial { .. } => SHORTEST_WINDOW.max(self.limit * 4),
        };
        if self.window.done < long {
            return;
        }
        let window = std::mem::take(&mut self.window);
        // Where there were not enough rows to ask about, the limit was not what limited.
        if window.wanted * 10 >= window.done * 9 {
            self.judge(window.rate(self.limit));
        }
    }

    fn judge(&mut self, rate: f64) {
        match self.phase.clone() {
            Phase::Doubling(Some((limit, before)), _) if rate < before * GAIN => {
                self.change(limit, Phase::Steady { windows: 0 });
            }
            // The first of so many found a shorter queue than those after them: look again.
            Phase::Doubling(before @ Some((_, rate_before)), false)
                if rate < rate_before * SURE =>
            {
                self.phase = Phase::Doubling(before, true);
            }
            Phase::Doubling(..) if self.limit == self.most => {
                self.phase = Phase::Steady { windows: 0 };
            }
            Phase::Doubling(..) => {
                let before = Some((self.limit, rate));
                self.change(self.limit.saturating_mul(2), Phase::Doubling(before, false));
            }
            Phase::Climbing { until } if self.limit >= until => {
                self.phase = Phase::Steady { windows: 0 };
            }
            Phase::Climbing { until } => {
                self.change(self.limit + 1, Phase::Climbing { until });
            }
            Phase::Steady { windows } if windows < self.pause => {
                self.phase = Phase::Steady { windows: windows + 1 };
            }
            Phase::Steady { .. } => self.attempt(rate),
            Phase::Trial { limit, rate: before } => self.compare(limit, before, rate),
        }
    }

    /// Another limit for one window: up, next time down.
    fn attempt(&mut self, rate: f64) {
        let (limit, step) = (self.limit, (self.limit / TRIAL).max(1));
        let is_down = self.is_next_down || limit == self.most;
        self.is_next_down = !is_down;
        let other = if is_down { limit.saturating_sub(step).max(1) } else { limit + step };
        if other != limit {
            self.change(other, Phase::Trial { limit, rate });
        }
    }

    /// More must bring more; fewer must only bring as much, because the others wait less then.
    fn compare(&mut self, limit: usize, before: f64, rate: f64) {
        let is_better = match self.limit > limit {
            true => rate > before * GAIN,
            false => rate * 1.01 > before,
        };
        if is_better {
            self.pause = PAUSE;
            self.phase = Phase::Steady { windows: 0 };
        } else {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.change(limit, Phase::Steady { windows: 0 });
        }
    }

    fn change(&mut self, limit: usize, phase: Phase) {
        self.limit = limit.clamp(1, self.most);
        self.phase = phase;
        self.epoch += 1;
        let skip = if matches!(self.phase, Phase::Doubling(..)) { 0 } else { self.limit };
        self.window = Window { skip, ..Window::default() };
    }
}

impl Window {
    /// Answers a second with so many in flight.
    fn rate(&self, in_flight: usize) -> f64 {
        let each = self.took.max(Duration::from_micros(1)).as_secs_f64() / self.done.max(1) as f64;
        in_flight as f64 / each
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::collections::VecDeque;

    /// A server that works on `slots` at once, each taking `a + b * active`; others wait, or are refused
    /// where there is a `limit`. Time is counted, not spent.
    struct Server {
        slots: usize,
        a: f64,
        b: f64,
        refuses_above: Option<usize>,
    }

    impl Server {
        /// Answers a second, the gate at the end, and refusals.
        fn run(&self, gate: &mut Gate, requests: usize) -> (f64, usize) {
            let (mut now, mut sent, mut done, mut refused) = (0.0f64, 0, 0, 0);
            // When it ends, when it was sent, in nanoseconds; and in which epoch.
            let mut ends: BinaryHeap<Reverse<(u64, (u64, u64))>> = BinaryHeap::new();
            let mut waiting: VecDeque<(u64, u64)> = VecDeque::new();
            while done < requests {
                while gate.has_room() && sent < requests {
                    let epoch = gate.enter();
                    if self.refuses_above.is_some_and(|most| ends.len() + waiting.len() >= most) {
                        refused += 1;
                        gate.leave(epoch, Ended::Refused, Duration::ZERO, true);
                        // The pause that a refusal brings.
                        break;
                    }
                    sent += 1;
                    waiting.push_back(((now * 1e9) as u64, epoch));
                }
                while ends.len() < self.slots && !waiting.is_empty() {
                    let takes = self.a + self.b * (ends.len() + 1) as f64;
                    let end = ((now + takes) * 1e9) as u64;
                    ends.extend(waiting.pop_front().map(|sent| Reverse((end, sent))));
                }
                let Some(Reverse((end, (since, epoch)))) = ends.pop() else { continue };
                now = end as f64 / 1e9;
                done += 1;
                let took = Duration::from_nanos(end - since);
                gate.leave(epoch, Ended::Served, took, sent < requests);
            }
            (done as f64 / now, refused)
        }

        fn best(&self) -> f64 {
            self.slots as f64 / (self.a + self.b * self.slots as f64)
        }
    }

    fn gate(most: usize) -> Gate {
        Gate::new(8, most)
    }

    #[test]
    fn the_knee_of_a_server_is_found_and_kept() {
        for slots in [1, 3, 8, 20, 64, 100, 300] {
            let server = Server { slots, a: 0.2, b: 0.001, refuses_above: None };
            let mut gate = gate(512);
            server.run(&mut gate, 20_000);
            let (rate, _) = server.run(&mut gate, 20_000);
            assert!(rate > 0.98 * server.best(), "{slots}: {rate} of {}", server.best());
            let (knee, reached) = gate.reached();
            assert_eq!(reached, Reached::Knee);
            assert!(knee >= slots * 9 / 10 && knee <= slots * 3 / 2 + 8, "{slots}: {knee}");
        }
    }

    #[test]
    fn a_refusal_cuts_at_once_and_the_limit_climbs_back() {
        let server = Server { slots: 40, a: 0.2, b: 0.001, refuses_above: Some(40) };
        let mut gate = gate(512);
        server.run(&mut gate, 20_000);
        let (rate, refused) = server.run(&mut gate, 20_000);
        assert!(rate > 0.9 * server.best(), "{rate} of {}", server.best());
        assert!(refused < 100, "{refused}");
        let before = gate.limit();
        let epoch = gate.enter();
        gate.leave(epoch, Ended::Refused, Duration::ZERO, true);
        assert!(gate.limit() * 10 <= before * 8, "{before} {}", gate.limit());
    }

    #[test]
    fn one_overload_cuts_once() {
        let mut gate = Gate::new(100, 512);
        let epochs: Vec<u64> = (0..100).map(|_| gate.enter()).collect();
        for epoch in epochs {
            gate.leave(epoch, Ended::Refused, Duration::ZERO, true);
        }
        assert_eq!(gate.limit(), 70);
    }

    #[test]
    fn a_cap_is_never_passed_and_few_rows_change_nothing() {
        let server = Server { slots: 300, a: 0.2, b: 0.0, refuses_above: None };
        let mut gate = gate(512);
        gate.cap(4);
        server.run(&mut gate, 5_000);
        assert_eq!(gate.reached(), (4, Reached::Cap));
        let mut idle = Gate::new(8, 512);
        for _ in 0..1_000 {
            let epoch = idle.enter();
            idle.leave(epoch, Ended::Served, Duration::from_millis(1), false);
        }
        assert_eq!(idle.reached(), (8, Reached::Unknown));
    }
}
