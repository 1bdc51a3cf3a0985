"""`cutstream bulk`: many images from one place to another, each exactly once, over crashes of either side.

The way of an image: `sources` lists it and `naming` decides where its cutout goes, before the run; `run` reads it
through `storage`, streams it through the client, writes the cutout, and notes it in the `manifest`.

On a cluster `ray_engine` hands out blocks of images, each `ray_worker` does the `run` of a block and notes it in
`parts` of the manifest, which are merged.
"""
