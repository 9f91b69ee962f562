//! Administrators whom sources tell of.

use lapsed::domain::Token;
use rstest::rstest;

use super::{address, read, token, write};
use crate::db::Db;

fn pair(account: &str, address: &str) -> (String, String) {
    (account.to_owned(), address.to_owned())
}

#[rstest]
#[tokio::test]
async fn what_a_source_tells_of_admins_replaces_what_it_told_before(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let before = [
        pair("acme", "Grace@acme.example"),
        pair("acme", "ada@acme.example"),
        pair("zoo", "z@zoo.example"),
    ];
    write!(store, tx => tx.put_told_admins("exports", &before));
    write!(store, tx => tx.put_told_admins("another", &[pair("acme", "x@another.example")]));
    assert_eq!(read!(store, tx => tx.admins_told_by("exports")), before);

    let of_acme = Token {
        account: Some("acme".into()),
        ..token("1")
    };
    let of_nobody = token("2");
    let tokens = [of_acme, of_nobody];
    let told = read!(store, tx => tx.told_admins(&tokens));
    let mut admins = told.of(&tokens[0]).to_vec();
    admins.sort();
    assert_eq!(
        admins,
        [address("ada@acme.example"), address("grace@acme.example")]
    );
    assert!(told.of(&tokens[1]).is_empty());

    write!(store, tx => tx.put_told_admins("exports", &[]));
    assert!(read!(store, tx => tx.admins_told_by("exports")).is_empty());
    let told = read!(store, tx => tx.told_admins(&tokens));
    assert!(told.of(&tokens[0]).is_empty());
    assert_eq!(read!(store, tx => tx.admins_told_by("another")).len(), 1);
}
