# UNet++: Zhou et al., 2018.

_base_ = "./unet.py"

# ---- often changed ----
deep_supervision = 0.0  # weight of the losses of the shallower nested UNets; 0: none

# ---- the rest ----
model = dict(decode_head=dict(type="aicore.UNetPlusPlusHead"))
