"""The machine: files, locks, downloads, checksums, processes. No torch, no flags."""
