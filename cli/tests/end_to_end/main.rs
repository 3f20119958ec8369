//! The promises of the whole, kept with the real programs: what a new user does, on the sample that the project ships.
//!
//! Two stacks are started: one is left in peace, the other has its processes killed during the import. What is in them
//! afterwards must be the same. It takes a minute or two, so there is one test for each stack and no more.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod away;
mod canary;
mod erasure;
mod lines;
mod load;
mod log;
mod rebuild;
mod rows;
mod sent;
mod stack;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::sent::Sent;
use crate::stack::Stack;

/// The patient of the printed requests.
const PRINTED: &str = "7cd3260f-2795-3080-b267-3bb0a9f40624";
/// A patient who comes in twice, see [`lines`].
const TWICE: &str = "347ceebf-0248-5a56-14f3-e1e8e8ffb73c";
/// Every process that may be killed while patients come in. Postgres is left to a later test of its own.
const KILLED: [&str; 4] = ["relay", "projector", "command-api", "kafka"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disturbed_import_ends_like_an_undisturbed_one() {
    let sent = Sent::sample();

    let calm = Stack::start(&[]).await;
    calm.up_again_is_quick_and_adds_nothing().await;
    sent.is_read_back(&calm).await;
    let rows = rows::of_any_installation(&calm).await;
    log::has_no_gap(&calm, sent.len()).await;
    a_first_session_goes_as_printed(&calm).await;
    canary::nothing_of_a_patient_is_found(&calm).await;
    log::a_stock_reader_reads_a_stream(&calm).await;
    log::records_have_their_documented_headers(&calm).await;
    lines::are_taken_once_whatever_their_order(&calm, &sent).await;
    transport::postgres_lets_nobody_in_without_a_certificate(&calm).await;
    transport::kafka_lets_each_do_its_own_work_only(&calm).await;
    transport::metrics_are_for_the_stack_itself(&calm).await;
    transport::certificates_are_renewed_under_load(&calm).await;
    let gone: Vec<&str> = sent.patients().into_iter().filter(|id| ![PRINTED, TWICE].contains(id)).take(3).collect();
    erasure::leaves_nothing_and_nobody_else_notices(&calm, &sent, &gone, PRINTED).await;
    rebuild::comes_out_equal(&calm).await;
    calm.down().await;

    let stormy = Stack::start(&["--no-sample"]).await;
    let pids = stormy.pids().await;
    let killer = stormy.kill_each(&KILLED, &pids, sent.len());
    let (imported, ()) = tokio::join!(stormy.import_sample(), killer);
    assert_eq!(imported["refused"], json!(0), "{imported}");
    stormy.wait_until_read_models_are_level().await;
    sent.is_read_back(&stormy).await;
    log::has_no_gap(&stormy, sent.len()).await;
    rows::are_those_of_an_undisturbed_fold(&stormy).await;
    rows::assert_same(&rows, &rows::of_any_installation(&stormy).await);
    let again = stormy.import_sample().await;
    assert_eq!((again["accepted"].clone(), again["refused"].clone()), (json!(0), json!(0)), "{again}");
    assert_eq!(again["already_there"], json!(sent.len()), "{again}");
    log::has_no_gap(&stormy, sent.len()).await;
    stormy.down().await;
}

/// The same erasure among more patients than the sample's: `NEXUS_TEST_PATIENTS` is a folder of bundles, such as
/// `./nexus sample` makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and a folder of patients"]
async fn ten_of_many_patients_are_erased_under_load() {
    let folder = std::env::var("NEXUS_TEST_PATIENTS").expect("NEXUS_TEST_PATIENTS is a folder of bundles");
    let (sent, stack) = (Sent::folder(folder.as_ref()), Stack::start(&[]).await);
    let imported = stack.import(folder.as_ref()).await;
    assert_eq!(imported["refused"], json!(0), "{imported}");
    erasure::leaves_nothing_and_nobody_else_notices(&stack, &sent, &sent.patients()[..10], PRINTED).await;
    stack.down().await;
}

/// Every read model is rebuilt while commands and queries go on: `NEXUS_TEST_PATIENTS` as above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and a folder of patients"]
async fn read_models_are_rebuilt_under_load() {
    let folder = std::env::var("NEXUS_TEST_PATIENTS").expect("NEXUS_TEST_PATIENTS is a folder of bundles");
    let (sent, stack) = (Sent::folder(folder.as_ref()), Arc::new(Stack::start(&[]).await));
    let imported = stack.import(folder.as_ref()).await;
    assert_eq!(imported["refused"], json!(0), "{imported}");
    rebuild::disturbs_nobody(stack.clone(), &sent.living()).await;
    Arc::into_inner(stack).unwrap().down().await;
}

/// One read model's database is away for a minute: `NEXUS_TEST_PATIENTS` as above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and a folder of patients"]
async fn a_read_models_database_goes_away() {
    let folder = std::env::var("NEXUS_TEST_PATIENTS").expect("NEXUS_TEST_PATIENTS is a folder of bundles");
    let (sent, stack) = (Sent::folder(folder.as_ref()), Arc::new(Stack::start(&[]).await));
    let imported = stack.import(folder.as_ref()).await;
    assert_eq!(imported["refused"], json!(0), "{imported}");
    away::leaves_the_others_alone(stack.clone(), &sent.living()).await;
    Arc::into_inner(stack).unwrap().down().await;
}

/// Search, chart, record, and read one's own write, as `up` prints them.
async fn a_first_session_goes_as_printed(stack: &Stack) {
    let a_token_begins = "eyJ";
    assert!(!stack.printed().contains(a_token_begins), "{}", stack.printed());
    // A second time, too.
    for shell in ["bash", "sh"] {
        let answers = stack.run_as_printed(shell);
        assert_eq!(answers.len(), 3, "`up` prints three requests");
        let patient = answers[0]["items"][0]["id"].as_str().expect("the search finds the patient");
        assert!(stack.printed_requests().contains(patient), "the chart is that of the patient found");
        assert!(answers[1].is_object(), "{}", answers[1]);
        let series = &answers[2]["items"];
        assert_eq!(series[0]["value"].to_string(), "72", "the observation just recorded is the newest: {series}");
    }
}

/// How long anything may take to settle before the test gives up. Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(120);
