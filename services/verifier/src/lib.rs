//! Collects evidence and gives verdicts.
