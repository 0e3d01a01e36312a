//! Readings that look like those of a plant.

use std::f64::consts::TAU;

/// What a sensor measures, and how it moves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantity {
    /// Its name in the JSON body.
    pub(super) name: &'static str,
    /// Its unit.
    pub(super) unit: &'static str,
    /// The value around which it moves.
    pub(super) base: f64,
    /// How far it swings.
    pub(super) swing: f64,
    /// How long a swing takes, in readings.
    pub(super) period: f64,
    /// The form of the swing.
    pub(super) shape: Shape,
    /// Above this it is worth an alert.
    pub(super) alert: f64,
    /// Digits behind the point.
    pub(super) digits: usize,
}

/// The form of a swing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Up and down.
    Wave,
    /// Slowly up, then at once down: a tank that is emptied.
    Saw,
    /// Quiet, with bursts.
    Bursts,
}

/// A sensor with its place in the swing and its noise.
pub(super) struct Sensor {
    quantity: Quantity,
    reading: f64,
    noise: u64,
}

impl Sensor {
    /// A sensor; the seed makes its noise.
    pub(super) fn new(quantity: Quantity, seed: u64) -> Self {
        Self { quantity, reading: 0.0, noise: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// The next reading.
    pub(super) fn read(&mut self) -> f64 {
        let phase = (self.reading / self.quantity.period).fract();
        self.reading += 1.0;
        let form = match self.quantity.shape {
            Shape::Wave => (phase * TAU).sin(),
            Shape::Saw => 2.0 * phase - 1.0,
            Shape::Bursts if phase > 0.8 => 1.0,
            Shape::Bursts => -0.6,
        };
        self.quantity.base + self.quantity.swing * (0.85 * form + 0.15 * self.noise())
    }

    /// Between −1 and 1 (xorshift64).
    fn noise(&mut self) -> f64 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        f64::from((self.noise >> 32) as u32) / f64::from(u32::MAX) * 2.0 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_stay_within_the_swing_and_move() {
        for shape in [Shape::Wave, Shape::Saw, Shape::Bursts] {
            let quantity = Quantity {
                name: "level",
                unit: "%",
                base: 50.0,
                swing: 10.0,
                period: 20.0,
                shape,
                alert: 60.0,
                digits: 1,
            };
            let mut sensor = Sensor::new(quantity, 7);
            let readings: Vec<f64> = (0..100).map(|_| sensor.read()).collect();
            let (low, high) = readings.iter().fold((f64::MAX, f64::MIN), |(l, h), r| (l.min(*r), h.max(*r)));
            assert!(low >= 40.0 && high <= 60.0 && high - low > 10.0, "{shape:?}: {low} to {high}");
        }
    }
}
