//! The program against the model, for a moment: `cargo xtask fuzz` does it for longer.

use std::time::{SystemTime, UNIX_EPOCH};

use harness::fuzz::{Fuzz, Random};

/// Sequences of 300 steps for each seed.
const SEQUENCES: usize = 34;

#[test]
fn the_program_does_what_the_model_says() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut fuzz = Fuzz::new();
    for seed in [1, clock] {
        let mut random = Random::new(seed);
        for _ in 0..SEQUENCES {
            if let Err(divergence) = fuzz.sequence(random.number()) {
                panic!("{divergence}");
            }
        }
    }
    println!("{} packets: {:?}", fuzz.packets, fuzz.outcomes);
}
