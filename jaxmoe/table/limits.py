"""How large a table and its files may be, so that no small file takes the memory or the time of a large one."""

FILE_BYTES = 256 * 2**20  # of one file, as it lies on the disk
UNPACKED_BYTES = 64 * 2**20  # of an Excel file, which is a zip archive
MARKS = 4_000_000  # opened or closed in a member of an Excel file: four for each cell
CELLS = 10_000_000  # of one file, blank ones too
COLUMNS = 200_000  # a wide table of 16 experts has 3 for each of 2^16 combinations
ROWS = 4_000_000  # of one file
SHEET_ROWS = 2**20  # of a sheet, as spreadsheets have them
TEXT = 1_000_000  # characters of a cell
NAME = 200  # characters of an expert's name
NUMBERS = 2**26  # prompts by subsets, in each array of a table
