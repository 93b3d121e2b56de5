//! Finds the world bundles that lie beside this crate's sources and writes the table through which they are built into the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut table = String::from("&[\n");
    for folder in entries(&root)? {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if !folder.join("world.ron").is_file() {
            continue;
        }
        let _ = writeln!(table, "    ({name:?}, &[");
        for file in bundle_files(&folder)? {
            println!("cargo:rerun-if-changed={}", file.display());
            let inside = file.strip_prefix(&folder).unwrap_or(&file);
            let inside = inside.to_string_lossy().replace('\\', "/");
            let path = file.to_string_lossy();
            let _ = writeln!(table, "        ({inside:?}, include_bytes!({path:?})),");
        }
        table.push_str("    ]),\n");
    }
    table.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("built_in.rs"), table)
}

/// What a bundle is played from: manifest, weights, sounds and prompts, but nothing else that may lie in its folder.
fn bundle_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let ends_with = |path: &Path, ends: &[&str]| {
        path.extension()
            .is_some_and(|end| ends.iter().any(|e| end == *e))
    };
    let mut files = vec![folder.join("world.ron")];
    let parts = entries(folder)?.into_iter();
    files.extend(parts.filter(|path| ends_with(path, &["safetensors", "wav"])));
    let readme = folder.join("README.md");
    if readme.is_file() {
        files.push(readme);
    }
    for (inside, ending) in [("prompts", "png"), ("sounds", "wav")] {
        let inside = folder.join(inside);
        if inside.is_dir() {
            let parts = entries(&inside)?.into_iter();
            files.extend(parts.filter(|path| ends_with(path, &[ending])));
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}
