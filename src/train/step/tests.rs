//! Pieces and ranks against the whole.

use std::thread;

use candle_core::DType;
use candle_core::Device;

use super::*;
use crate::model;
use crate::model::init;
use crate::train::collective::Single;
use crate::train::collective::Threads;
use crate::train::gate::Gate;
use crate::train::objective::Lessons;

const BATCH: usize = 6;

fn config() -> model::Config {
    let mut config = model::Config::preset("tiny").unwrap();
    config.vocab_size = 50;
    config.ctx_len = 9;
    config.input_size = 24;
    config.image_depth = 3;
    config.drop_path_rate = 0.5;
    config
}

fn student(frozen: &[Tower]) -> Student {
    let mut weights = init::initial(&config(), 4).unwrap();
    // Matrices that begin as zeros would hide what is before them.
    for tensor in weights.values_mut() {
        let noise: Vec<f32> = (0..tensor.elem_count()).map(|i| (i as f32).sin() * 0.05).collect();
        let noise = Tensor::from_vec(noise, tensor.shape(), &Device::Cpu).unwrap();
        *tensor = (&*tensor + noise).unwrap();
    }
    Student::new(config(), &weights, DType::F32, &Device::Cpu, frozen).unwrap()
}

/// A batch whose numbers follow from their places.
fn batch() -> Part {
    let pixels =
        (0..BATCH * 3 * 24 * 24).map(|i| ((i * 7919 % 1009) as f32 / 500.0) - 1.0).collect();
    let tokens = (0..BATCH * 9).map(|i| (i * i * 31 % 50) as u32).collect();
    let teacher = |salt: usize| {
        let numbers = (0..BATCH * 16).map(|i| ((i * salt % 101) as f32 / 50.0) - 1.0).collect();
        Tensor::from_vec::<_, f32>(numbers, (BATCH, 16), &Device::Cpu).unwrap()
    };
    let projection = (0..64 * 16).map(|i| ((i * 37 % 97) as f32 / 97.0) - 0.5).collect();
    Part {
        pixels: Tensor::from_vec::<_, f32>(pixels, (BATCH, 3, 24, 24), &Device::Cpu).unwrap(),
        tokens: Tensor::from_vec::<_, u32>(tokens, (BATCH, 9), &Device::Cpu).unwrap(),
        taught: Some(Taught {
            images: teacher(17),
            texts: teacher(29),
            scale: 10.0,
            projection: Some(
                Tensor::from_vec::<_, f32>(projection, (64, 16), &Device::Cpu).unwrap(),
            ),
        }),
        first: 0,
    }
}

fn rows(batch: &Part, first: usize, rows: usize) -> Part {
    let part = |tensor: &Tensor| tensor.narrow(0, first, rows).unwrap();
    let taught = batch.taught.clone().unwrap();
    Part {
        pixels: part(&batch.pixels),
        tokens: part(&batch.tokens),
        taught: Some(Taught { images: part(&taught.images), texts: part(&taught.texts), ..taught }),
        first,
    }
}

fn objective() -> Objective {
    let lessons = Lessons { logits: 0.7, features: 0.3 };
    Objective { gate: Some(Gate::default()), lessons }
}

/// f32 sums in another order: each gradient within 1e-5 of the largest number in it or of one, the
/// loss within 1e-5.
fn assert_same(
    student: &Student,
    found: &(Losses, GradStore),
    wanted: &(f64, GradStore),
    of: &Student,
) {
    let loss = found.0.total.to_scalar::<f32>().unwrap();
    assert!((f64::from(loss) - wanted.0).abs() < 1e-5, "loss {loss}, {}", wanted.0);
    let mut seen = 0;
    for ((name, var), (_, twin)) in student.learning().zip(of.learning()) {
        let numbers = |grad: &Tensor| grad.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let wanted = numbers(wanted.1.get(twin).unwrap_or_else(|| panic!("{name}")));
        let found = numbers(found.1.get(var).unwrap_or_else(|| panic!("{name}")));
        let largest = wanted.iter().fold(1f32, |most, x| most.max(x.abs()));
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 1e-5 * largest, "{name}: {found}, {wanted}");
        }
        seen += usize::from(wanted.iter().any(|x| *x != 0.0));
    }
    assert!(seen > 40, "{seen} gradients are not zero");
}

#[test]
fn pieces_of_a_batch_have_the_gradient_of_the_whole() {
    for frozen in [&[][..], &[Tower::Text], &[Tower::Image]] {
        let (student, batch) = (student(frozen), batch());
        let (losses, wanted) = gradients_at_once(&student, &batch, &mut objective(), 9).unwrap();
        let wanted = (f64::from(losses.total.to_scalar::<f32>().unwrap()), wanted);
        for piece in [1, 2, 4, 6, 99] {
            let plan = Plan { piece, seed: 9 };
            let found = gradients(&student, &batch, &mut objective(), plan, &Single).unwrap();
            for (name, var) in student.learning_in_towers() {
                let grad = found.1.get(var).unwrap();
                assert!(!grad.track_op(), "the gradient of {name} keeps its piece in memory");
            }
            assert_same(&student, &found, &wanted, &student);
        }
    }
}

#[test]
fn ranks_with_parts_of_a_batch_have_the_loss_and_gradient_of_one_with_all() {
    let (one, batch) = (student(&[]), batch());
    let (losses, wanted) = gradients_at_once(&one, &batch, &mut objective(), 9).unwrap();
    let wanted = (f64::from(losses.total.to_scalar::<f32>().unwrap()), wanted);
    // Also with fewer rows on one rank, as when a picture cannot be read.
    for cuts in [[0, 3, 6], [0, 2, 6]] {
        let work = |ranks: Threads| {
            let student = student(&[]);
            let (first, end) = (cuts[ranks.rank()], cuts[ranks.rank() + 1]);
            let part = rows(&batch, first, end - first);
            let plan = Plan { piece: 2, seed: 9 };
            let found = gradients(&student, &part, &mut objective(), plan, &ranks).unwrap();
            assert_same(&student, &found, &wanted, &one);
        };
        thread::scope(|scope| {
            let threads: Vec<_> =
                Threads::new(2).into_iter().map(|ranks| scope.spawn(|| work(ranks))).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
