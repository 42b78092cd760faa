fn main() -> std::process::ExitCode {
    dativo_relay::main()
}
