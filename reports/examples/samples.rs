//! Writes the reports of the sample records, to be looked at: `cargo run -p reports --example samples -- out/samples`.

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "out/samples".to_owned());
    for record in [
        common::headless(),
        common::three(),
        common::strategies(),
        common::hundred(),
        common::empty(),
        common::canary(),
    ] {
        let paths = reports::write(&std::path::Path::new(&dir).join(&record.scenario), &record)?;
        println!("{}", reports::terminal::table(&record, false));
        println!("{}\n{}\n", reports::verdict::sentence(&record), paths.index_html.display());
    }
    Ok(())
}
