//! Stack for long expressions.

use super::{ExpressionError, ExpressionErrorKind};

/// CEL's parser and evaluator call themselves for every operator, taking some 10 KiB each time in a debug build.
/// This many fit on the stack of any thread.
const FEW_OPERATORS: usize = 24;

/// Enough for the longest expression that is accepted. Memory is used only as deep as the stack gets.
const STACK_BYTES: usize = 64 << 20;

/// Does `work`, which compiles or evaluates `source`, where there is stack enough for it.
pub(super) fn with_room<T: Send>(
    source: &str,
    work: impl FnOnce() -> Result<T, ExpressionError> + Send,
) -> Result<T, ExpressionError> {
    if source.bytes().filter(u8::is_ascii_punctuation).take(FEW_OPERATORS + 1).count() <= FEW_OPERATORS {
        return work();
    }
    let failed = |message: &str| ExpressionError::new(ExpressionErrorKind::Evaluation, 0, message);
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("expression".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| failed(&format!("no thread to evaluate this expression: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(failed("this expression cannot be evaluated")))
    })
}
