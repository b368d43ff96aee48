"""Pictures of an animated head without a screen: scene, lighting, rasteriser, video."""
