//! Builds the datapath programs with those of the benchmarks.

#[path = "../../agent/build/ebpf.rs"]
mod ebpf;

fn main() {
    if let Err(error) = ebpf::build(ebpf::Programs::Bench) {
        println!("cargo::error={}", error.replace('\n', "\ncargo::error="));
        std::process::exit(1);
    }
}
