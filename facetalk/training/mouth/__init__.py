"""Training of the picture features that FID and KID of rendered mouths compare."""
