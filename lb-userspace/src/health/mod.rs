//! Health of backends: what is asked, when, and what the answers mean.
