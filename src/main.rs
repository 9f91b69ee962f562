use std::process::ExitCode;

fn main() -> ExitCode {
    lapsed::cli::main()
}
