fn main() -> std::process::ExitCode {
    dativo_writer::main()
}
