//! `pdp_clients:` into who may ask about subjects that nobody has proven.

use std::sync::Arc;

use super::Compiler;
use crate::authz::asserted::PdpClient;

impl Compiler<'_> {
    /// The clients, in the file's order. One whose token is not there is an error, and none.
    pub(super) fn pdp_clients(&mut self) -> Box<[PdpClient]> {
        let file = self.file;
        let mut clients = Vec::with_capacity(file.pdp_clients.len());
        for (name, client) in &file.pdp_clients {
            clients.push(PdpClient {
                name: Arc::from(&*name.value),
                by: client.by.iter().filter_map(|peer| self.by(peer)).collect(),
                issuers: client.issuers.iter().map(|name| Arc::from(&*name.value)).collect(),
            });
        }
        clients.into()
    }
}
