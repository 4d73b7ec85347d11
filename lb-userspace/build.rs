fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::copy("../target/bpf/lb-ebpf.o", format!("{out}/lb-ebpf.o")).unwrap();
    println!("cargo::rerun-if-changed=../target/bpf/lb-ebpf.o");
}
