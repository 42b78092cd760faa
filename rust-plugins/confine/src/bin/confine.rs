fn main() -> std::process::ExitCode {
    dativo_confine::main()
}
