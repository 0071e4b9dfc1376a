//! What ranks tell each other in a step: everyone's rows, and the sum of everyone's gradients.
//!
//! A rank is one replica of the model with its own part of each batch. [`Single`] is alone,
//! [`Threads`] are replicas in one process. Nothing here knows what the tensors mean; a transport
//! between processes (NCCL) is not there yet and would be one more implementation.

use std::fmt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use candle_core::Tensor;

/// The ranks of a training, seen from one of them. All ranks make the same calls in the same order.
pub trait Collective: Send {
    /// Which one this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn world(&self) -> usize;

    /// The rows of all ranks, one under another in the order of ranks; ranks may have different
    /// numbers of rows. The same for every rank.
    ///
    /// # Shapes
    /// (n of this rank, ..) -> (n of all ranks, ..)
    ///
    /// # Errors
    /// When another rank has stopped, or its rows have another shape.
    fn all_gather(&self, rows: &Tensor) -> Result<Tensor>;

    /// For each tensor its sum over the ranks, added up in the order of ranks, so that every rank has
    /// the same bits.
    ///
    /// # Errors
    /// When another rank has stopped, or its tensors have other shapes.
    fn all_reduce_sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>>;
}

/// One rank, alone.
pub struct Single;

impl Collective for Single {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn all_gather(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.clone())
    }

    fn all_reduce_sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        Ok(tensors)
    }
}

/// One of several ranks that are threads of this process. Dropping it, as an error or a panic of its
/// thread does, ends the waiting of the others with an error.
pub struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

/// Where the ranks meet.
struct Meeting {
    world: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What each rank has brought to the exchange in progress.
    brought: Vec<Option<Vec<Tensor>>>,
    /// What all brought to the last exchange.
    done: Arc<Vec<Vec<Tensor>>>,
    /// Exchanges so far.
    exchanges: u64,
    /// A rank that will not come again.
    gone: Option<usize>,
}

/// A rank has stopped, and the others cannot go on without it; why is that rank's to say.
#[derive(Debug)]
pub struct Left {
    rank: usize,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "rank {} has stopped, and the others cannot go on without it", self.rank)
    }
}

impl std::error::Error for Left {}

impl Threads {
    /// One for each rank, in order.
    pub fn new(world: usize) -> Vec<Threads> {
        let state = State { brought: vec![None; world], ..State::default() };
        let meeting = Meeting { world, state: Mutex::new(state), changed: Condvar::new() };
        let meeting = Arc::new(meeting);
        (0..world).map(|rank| Threads { rank, meeting: meeting.clone() }).collect()
    }

    /// Everyone's tensors, in the order of ranks. The last to come moves the meeting on and wakes the
    /// others.
    fn exchange(&self, tensors: Vec<Tensor>) -> Result<Arc<Vec<Vec<Tensor>>>> {
        let mut state = self.state();
        let exchange = state.exchanges;
        state.brought[self.rank] = Some(tensors);
        if state.brought.iter().all(Option::is_some) {
            state.done = Arc::new(state.brought.iter_mut().filter_map(Option::take).collect());
            state.exchanges += 1;
            self.meeting.changed.notify_all();
        }
        while state.exchanges == exchange {
            if let Some(rank) = state.gone {
                return Err(Left { rank }.into());
            }
            state = self.meeting.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state.done.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.meeting.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.state().gone = Some(self.rank);
        self.meeting.changed.notify_all();
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.meeting.world
    }

    fn all_gather(&self, rows: &Tensor) -> Result<Tensor> {
        let all = self.exchange(vec![rows.clone()])?;
        let all: Vec<&Tensor> = all.iter().flatten().collect();
        Tensor::cat(&all, 0).context("the rows of the ranks do not fit together")
    }

    fn all_reduce_sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let count = tensors.len();
        let all = self.exchange(tensors)?;
        ensure!(all.iter().all(|of_rank| of_rank.len() == count), "ranks bring different tensors");
        let sum = |i: usize| -> Result<Tensor> {
            let (first, others) = all.split_first().context("there are no ranks")?;
            let add = |sum: Tensor, of_rank: &Vec<Tensor>| &sum + &of_rank[i];
            Ok(others.iter().try_fold(first[i].clone(), add)?)
        };
        (0..count).map(sum).collect()
    }
}

/// A rank as a launcher's environment tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Which one this process is.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// Which one of those on this machine it is: the number of its device.
    pub local_rank: usize,
}

/// Who sets which variables: rank, number of ranks, rank on this machine.
const LAUNCHERS: [(&str, [&str; 3]); 4] = [
    ("torchrun", ["RANK", "WORLD_SIZE", "LOCAL_RANK"]),
    ("Open MPI", ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"]),
    ("MPICH", ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"]),
    // Not SLURM_NTASKS, which a batch script has too, where one process runs.
    ("Slurm", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"]),
];

impl Launched {
    /// What the environment says; alone when no launcher has set rank and number of ranks both. The
    /// first launcher of torchrun, Open MPI, MPICH and Slurm counts: torchrun and MPI run inside of
    /// Slurm's allocations, whose variables are then those of the allocation.
    ///
    /// # Errors
    /// When a variable is no number, or the rank is not below the number of ranks.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Launched> {
        for (launcher, [rank, world, local]) in LAUNCHERS {
            let (Some(rank_is), Some(world_is)) = (variable(rank), variable(world)) else {
                continue;
            };
            let number = |name: &str, value: &str| -> Result<usize> {
                value.trim().parse().with_context(|| format!("{launcher} says {name}={value}"))
            };
            let (at, of) = (number(rank, &rank_is)?, number(world, &world_is)?);
            let local_rank = variable(local).map_or(Ok(0), |value| number(local, &value))?;
            ensure!(at < of, "{launcher} says {rank}={at} of {world}={of}");
            return Ok(Launched { rank: at, world: of, local_rank });
        }
        Ok(Launched { rank: 0, world: 1, local_rank: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use candle_core::Device;

    use super::*;

    #[test]
    fn every_rank_has_all_rows_and_the_same_sums() {
        let work = |ranks: Threads| {
            let rank = ranks.rank() as f32;
            for round in 0..50 {
                let own = vec![rank + round as f32; ranks.rank() + 1];
                let rows = Tensor::new(own, &Device::Cpu).unwrap();
                let all: Vec<f32> = ranks.all_gather(&rows).unwrap().to_vec1().unwrap();
                assert_eq!(all, [0.0, 1.0, 1.0, 2.0, 2.0, 2.0].map(|r| r + round as f32));
                let one = Tensor::new(&[rank, 10.0], &Device::Cpu).unwrap();
                let sums = ranks.all_reduce_sum(vec![one.clone(), one]).unwrap();
                assert_eq!(sums[1].to_vec1::<f32>().unwrap(), [3.0, 30.0]);
            }
        };
        thread::scope(|scope| {
            for ranks in Threads::new(3) {
                scope.spawn(move || work(ranks));
            }
        });
    }

    #[test]
    fn a_rank_that_stops_does_not_leave_the_others_waiting() {
        let mut ranks = Threads::new(2);
        let (other, first) = (ranks.pop().unwrap(), ranks.pop().unwrap());
        let row = Tensor::new(&[1f32], &Device::Cpu).unwrap();
        let waiting = thread::spawn(move || first.all_gather(&row).unwrap_err().to_string());
        drop(other);
        assert!(waiting.join().unwrap().contains("rank 1 has stopped"));
    }

    #[test]
    fn launchers_are_read_in_order() {
        let of = |pairs: &[(&str, &str)]| {
            let set: HashMap<String, String> =
                pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Launched::of(|name| set.get(name).cloned())
        };
        assert_eq!(of(&[]).unwrap(), Launched { rank: 0, world: 1, local_rank: 0 });
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_LOCALID", "1")];
        assert_eq!(of(&slurm).unwrap(), Launched { rank: 3, world: 8, local_rank: 1 });
        let both = [&slurm[..], &[("RANK", "0"), ("WORLD_SIZE", "2")]].concat();
        assert_eq!(of(&both).unwrap(), Launched { rank: 0, world: 2, local_rank: 0 });
        let mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert_eq!(of(&mpi).unwrap().rank, 1);
        assert!(of(&[("RANK", "2"), ("WORLD_SIZE", "2")]).is_err());
        let error = of(&[("RANK", "x"), ("WORLD_SIZE", "2")]).unwrap_err();
        assert!(format!("{error:#}").contains("torchrun says RANK=x"), "{error:#}");
    }
}
