# What Godot (3.2 and newer, or 4) made of talk.glb, which its editor has imported into this project: names of the
# tracks, then where all vertices are at the seconds of TIMES, for compare.py. How to run it: docs/formats.md.
extends SceneTree


func _initialize():
	var packed = load("res://talk.glb")
	if packed == null:
		print("talk.glb is not imported: open the project in the editor once, or run the editor with --quit")
		quit()
		return
	var scene = packed.call("instantiate" if packed.has_method("instantiate") else "instance")
	get_root().add_child(scene)
	var player = found(scene, ["AnimationPlayer"])[0]
	var take = player.get_animation_list()[0]
	var animation = player.get_animation(take)
	print("animation ", take, " ", animation.length, " s, ", animation.get_track_count(), " tracks")
	for track in range(animation.get_track_count()):
		print("track ", animation.track_get_path(track), " ", animation.track_get_key_count(track), " keys")
	player.play(take)
	for text in OS.get_environment("TIMES").split(" ", false):
		player.seek(float(text), true)
		print("frame ", text)
		for part in found(scene, ["MeshInstance", "MeshInstance3D"]):
			show(part)
	scene.free()
	quit()


func found(node, kinds):
	var all = [node] if node.get_class() in kinds else []
	for child in node.get_children():
		all += found(child, kinds)
	return all


# Godot computes this on the GPU.
func show(part):
	var mesh = part.mesh
	var place = part.global_transform
	for surface in range(mesh.get_surface_count()):
		var base = mesh.surface_get_arrays(surface)[Mesh.ARRAY_VERTEX]
		var shapes = mesh.surface_get_blend_shape_arrays(surface)
		var sum = Array(base)
		for number in range(shapes.size()):
			var weight = part.get("blend_shapes/" + str(mesh.get_blend_shape_name(number)))
			if not weight:
				continue
			var shape = shapes[number][Mesh.ARRAY_VERTEX]
			var absolute = mesh.blend_shape_mode == Mesh.BLEND_SHAPE_MODE_NORMALIZED
			for i in range(sum.size()):
				sum[i] += weight * (shape[i] - base[i] if absolute else shape[i])
		for v in sum:
			var w = place.basis.x * v.x + place.basis.y * v.y + place.basis.z * v.z + place.origin
			print("%.7f %.7f %.7f" % [w.x, w.y, w.z])
