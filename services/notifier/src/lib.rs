//! Tells people and systems what happens.
