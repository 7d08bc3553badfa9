// Accelerators without memory or arithmetic, for finding out what llama.cpp asks of real ones.
#pragma once

// Register `count` devices, each of which says it has `gib` GiB. To be called once, before the backends start.
void null_devices_register(int count, const long * gib);
