/* SPDX-License-Identifier: MIT
 *
 * The files of $DRAFT_SIMULATOR_PTX, and the kernels in them. */
#include <algorithm>
#include <cstdlib>
#include <dirent.h>
#include <fstream>
#include <map>
#include <sstream>

#include "ptx_program.h"

namespace simulator
{
namespace ptx
{

typedef std::map<std::string, std::unique_ptr<Program>> Programs;

static std::vector<std::string> list_files(const std::string &folder)
{
    std::vector<std::string> files;
    DIR *dir = opendir(folder.c_str());
    if (!dir)
        throw Error(folder + ": no such folder");
    while (const dirent *entry = readdir(dir)) {
        std::string name = entry->d_name;
        if (name.size() > 4 && name.compare(name.size() - 4, 4, ".ptx") == 0)
            files.push_back(folder + "/" + name);
    }
    closedir(dir);
    std::sort(files.begin(), files.end());
    return files;
}

static Programs load_folder(const std::string &folder)
{
    Programs all;
    for (const std::string &file : list_files(folder)) {
        std::ifstream stream(file);
        std::stringstream text;
        text << stream.rdbuf();
        if (!stream)
            throw Error(file + ": cannot be read");
        for (std::unique_ptr<Program> &program : parse(file, text.str())) {
            std::unique_ptr<Program> &place = all[program->name];
            if (place)
                throw Error(file + ": " + program->name + " is also in " + place->file);
            place = std::move(program);
        }
    }
    return all;
}

/* The driver's lock is held. */
const Kernel *choose_kernel(const Kernel *kernel)
{
    const char *folder = std::getenv("DRAFT_SIMULATOR_PTX");
    if (!folder || !kernel)
        return kernel;
    static const Programs programs = load_folder(folder);
    static std::map<std::string, Kernel> kernels;
    auto made = kernels.find(kernel->name);
    if (made != kernels.end())
        return &made->second;
    auto found = programs.find(kernel->name);
    if (found == programs.end())
        throw Error(std::string(folder) + ": no file there has " + kernel->name);
    return &kernels.emplace(kernel->name, make_kernel(*found->second, *kernel)).first->second;
}

} // namespace ptx
} // namespace simulator
