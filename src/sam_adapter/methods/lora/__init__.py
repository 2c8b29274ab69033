"""LoRA (Hu et al., 2022) in the image encoder, through `peft`."""
