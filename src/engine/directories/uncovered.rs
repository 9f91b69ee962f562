//! Issuers whom no directory covers any more: that is the operator's word and waits for no directory's answer.

use sha2::{Digest, Sha256};

use crate::domain::IssuerMode;
use crate::engine::{Engine, Error, judge};
use crate::sources::gather::hex;

/// The small fact that says by which modes of issuers people were last left out.
const LEFT_OUT_BY: &str = "issuers.modes";

impl Engine {
    /// Forgets what directories said of those who are no longer theirs to tell of, where the modes of issuers
    /// are others than before: also of a directory that is held, fails, or has nothing new to say.
    pub(super) async fn forget_uncovered(&self) -> Result<(), Error> {
        let modes = self.modes_digest();
        let mut tx = self.store.read().await?;
        let facts = tx.metas(&[LEFT_OUT_BY]).await?;
        drop(tx);
        if facts.get(LEFT_OUT_BY).map_or("", String::as_str) == modes {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        for row in tx.directories().await? {
            let known = tx.identities_of(&row.name).await?.into_iter();
            let keys = known.map(|identity| identity.email_key);
            let is_uncovered = |key: &String| self.issuers.mode(key) != IssuerMode::Sso;
            let uncovered: Vec<String> = keys.filter(is_uncovered).collect();
            if !uncovered.is_empty() {
                tx.drop_identities(&row.name, &uncovered).await?;
                judge::ask(&mut tx, self.now()).await?;
            }
        }
        tx.put_meta(LEFT_OUT_BY, &modes).await?;
        Ok(tx.commit().await?)
    }

    /// The modes in one word; none is none.
    fn modes_digest(&self) -> String {
        if self.issuers.modes.is_empty() {
            return String::new();
        }
        let mut digest = Sha256::new();
        for (name, mode) in &self.issuers.modes {
            digest.update(format!("{name} {mode}\n"));
        }
        hex(digest)
    }
}
