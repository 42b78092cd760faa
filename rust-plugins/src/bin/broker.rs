fn main() -> std::process::ExitCode {
    dativo_broker::main()
}
