fn main() -> std::process::ExitCode {
    dativo_pump::main()
}
