"""SAM-Adapter (Chen et al., 2023)."""
