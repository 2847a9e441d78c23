//! What is only read.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};

use super::Failure;
use crate::{
    api::{Explanation, History, ListRuns, ReadTriggerLog, RunList, RunView, TriggerLog},
    console::Console,
    read_model,
};

pub(super) async fn runs(
    State(console): State<Console>,
    list: Result<Query<ListRuns>, QueryRejection>,
) -> Result<Json<RunList>, Failure> {
    let Query(list) = list?;
    Ok(Json(console.database().runs(console.project(), &list).await?))
}

pub(super) async fn run(
    State(console): State<Console>,
    run: Result<Path<String>, PathRejection>,
) -> Result<Json<RunView>, Failure> {
    Ok(Json(console.run(&run?.0).await?))
}

pub(super) async fn explanation(
    State(console): State<Console>,
    run: Result<Path<String>, PathRejection>,
) -> Result<Json<Explanation>, Failure> {
    Ok(Json(read_model::explain(&console.run(&run?.0).await?)))
}

pub(super) async fn history(
    State(console): State<Console>,
    run: Result<Path<String>, PathRejection>,
) -> Result<Json<History>, Failure> {
    let run = console.run(&run?.0).await?;
    Ok(Json(console.database().history(&run.id).await?))
}

pub(super) async fn trigger_log(
    State(console): State<Console>,
    log: Result<Query<ReadTriggerLog>, QueryRejection>,
) -> Result<Json<TriggerLog>, Failure> {
    let Query(log) = log?;
    Ok(Json(console.database().trigger_log(console.project(), log.limit).await?))
}

pub(super) async fn nothing_here(uri: axum::http::Uri) -> Failure {
    Failure::NotFound(format!("address {} in this API", uri.path()))
}
