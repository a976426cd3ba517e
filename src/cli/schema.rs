//! `portcullis schema`: the JSON Schema of the policy file, for editors.

use std::process::ExitCode;

use clap::Args;

use super::print;

#[derive(Args)]
pub(super) struct Schema {}

impl Schema {
    pub fn run(self) -> ExitCode {
        print(format_args!("{:#}\n", crate::config::schema::schema()));
        ExitCode::SUCCESS
    }
}
