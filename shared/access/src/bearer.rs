//! Tokens in HTTP headers.

use crate::Denial;

/// The token in the value of an `Authorization` header (RFC 6750, section 2.1).
///
/// # Errors
/// [`Denial::Missing`] when there is no header or it is of another scheme.
pub fn bearer_token(authorization: Option<&str>) -> Result<&str, Denial> {
    let (scheme, token) = authorization.and_then(|value| value.trim().split_once(' ')).ok_or(Denial::Missing)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(Denial::Missing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_counts() {
        assert_eq!(bearer_token(Some("Bearer cdf_x")), Ok("cdf_x"));
        assert_eq!(bearer_token(Some("bearer  cdf_x ")), Ok("cdf_x"));
        for other in [None, Some(""), Some("Bearer"), Some("Bearer  "), Some("Basic YTpi")] {
            assert_eq!(bearer_token(other), Err(Denial::Missing), "{other:?}");
        }
    }
}
