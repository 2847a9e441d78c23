//! `GET /board`.

use axum::{Json, extract::State};

use super::Failure;
use crate::{api::Board, console::Console};

pub(super) async fn board(State(console): State<Console>) -> Result<Json<Board>, Failure> {
    Ok(Json(console.board().await?))
}
