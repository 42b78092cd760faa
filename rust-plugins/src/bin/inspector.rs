fn main() -> std::process::ExitCode {
    dativo_inspector::main()
}
