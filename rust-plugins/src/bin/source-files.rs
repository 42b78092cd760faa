fn main() -> std::process::ExitCode {
    dativo_source_files::main()
}
