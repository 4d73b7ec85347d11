//! Runs the work of a request on a thread where it may block.

use std::sync::Arc;

use axum::Json;
use tokio::sync::Semaphore;

use crate::api::Problem;

/// Most requests of a kind that run at the same time: reads, and changes. Others wait, so that a
/// crowd of requests leaves processors for the controller itself.
const MOST_AT_ONCE: usize = 4;

/// The response to a request: JSON or a problem.
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// Runs work that reads from the controller.
pub(super) async fn read<S: Send + Sync + ?Sized + 'static, T: Send + 'static>(
    source: Arc<S>,
    work: impl FnOnce(&S) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    static TURNS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);
    answer(&TURNS, source, work).await
}

/// Runs work that changes something. It never waits for reads.
pub(super) async fn change<S: Send + Sync + ?Sized + 'static, T: Send + 'static>(
    source: Arc<S>,
    work: impl FnOnce(&S) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    static TURNS: Semaphore = Semaphore::const_new(MOST_AT_ONCE);
    answer(&TURNS, source, work).await
}

async fn answer<S: Send + Sync + ?Sized + 'static, T: Send + 'static>(
    turns: &Semaphore,
    source: Arc<S>,
    work: impl FnOnce(&S) -> Result<T, Problem> + Send + 'static,
) -> Answer<T> {
    let _turn = turns.acquire().await;
    match tokio::task::spawn_blocking(move || work(&*source)).await {
        Ok(answer) => answer.map(Json),
        Err(error) => Err(Problem::internal(format!("the request could not be handled: {error}"))),
    }
}
