"""What `prepare` is made of: fitting and cutting images, the split of patients, shards, the pool of workers."""
