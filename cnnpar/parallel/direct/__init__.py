"""The direct transport: jobs and answers over connections of our own, parameters and gradients in shared memory."""
