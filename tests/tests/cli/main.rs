//! What operators type and read: `lbctl` beside a running `lbd`.

mod completion;
mod lbctl;
mod operating;
mod terminal;
