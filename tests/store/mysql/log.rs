//! What it costs to read a log that is long.

use portcullis::store::Sequence;

use super::server::Server;
use super::{Database, number, run};

const ENTRIES: u64 = 20_000;

/// A replica that starts reads it page by page: were a page to cost what is left of the log, a million entries would take half
/// a minute. The server counts the rows that it looks at.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_of_the_log_costs_a_page_however_long_the_log_is() {
    let server = Server::start().await;
    let database = Database::on(&server.url()).await;
    let store = database.open().await;
    let mut other = database.connect().await;
    run(
        &mut other,
        &format!(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT seq, UNHEX(MD5(seq)), 'logout', 1, UNHEX('0011223344556677') FROM seq_1_to_{ENTRIES}"
        ),
    )
    .await;
    let mut looked_at = async || {
        let count = "SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.GLOBAL_STATUS
                     WHERE VARIABLE_NAME IN ('HANDLER_READ_NEXT', 'HANDLER_READ_KEY', 'HANDLER_READ_FIRST')";
        number(&mut other, count).await
    };
    let before = looked_at().await;
    for after in [0, 100, 5_000] {
        let page = store.log_page(Sequence::new(after), 100).await.unwrap();
        assert_eq!(page.len(), 100);
        assert_eq!(page[0].sequence, Sequence::new(after + 1));
        let log = store.read_log(Sequence::new(ENTRIES)).await.unwrap();
        assert!(log.entries.is_empty() && log.mark.is_some());
    }
    let took = looked_at().await - before;
    assert!(
        (300..1_000).contains(&took),
        "{took} rows for three pages and three looks"
    );
}
