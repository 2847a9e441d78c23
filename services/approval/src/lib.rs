//! Who may decide, how many, until when.
