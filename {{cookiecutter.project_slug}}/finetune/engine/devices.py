"""The number format that suits this machine's device."""


def best_dtype() -> str:
    """Return `bfloat16` if the processor or the GPU computes in it, else `float32`."""
    import torch

    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"
