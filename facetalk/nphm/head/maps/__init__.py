"""Pictures of the built-in head: albedo, normals and roughness on the template's texture coordinates."""
